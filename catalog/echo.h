#ifndef TENSORFERRY_CATALOG_ECHO_H_
#define TENSORFERRY_CATALOG_ECHO_H_

#include <ATen/core/Tensor.h>

#include <memory>

#include "absl/time/time.h"
#include "base/done.h"
#include "session/session.h"
#include "transfer/link.h"

namespace tensorferry {

// Sends a tensor to a peer that serves a catalog, which drops it and answers,
// or sends it back; to measure the way. `done` gets the time that it took.
// Statuses are Session::Call's.
Operation Echo(std::shared_ptr<Session> session, at::Tensor tensor,
               bool and_back, absl::Duration timeout,
               Done<absl::Duration> done);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_ECHO_H_
