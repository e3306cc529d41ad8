#ifndef TENSORFERRY_SESSION_CALL_H_
#define TENSORFERRY_SESSION_CALL_H_

#include <cstdint>

#include "base/done.h"
#include "session/session.h"
#include "transfer/link.h"

namespace tensorferry {

// Session::Call on a link: a request and the reply that carries its number.
// `done` runs after both have ended, so that it fences the request's tensors
// and the reply's destination. A reply counts even if the request's own
// acknowledgement was lost.
Operation StartCall(Link& link, uint64_t call, TensorMessage request,
                    CallOptions options, Done<Received> done);

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_CALL_H_
