#ifndef TENSORFERRY_TRANSPORT_DIAL_CONTEXT_H_
#define TENSORFERRY_TRANSPORT_DIAL_CONTEXT_H_

#include <memory>

#include "transport/data_address.h"
#include "transport/session_context.h"

namespace tensorferry {

// The dialing half of a session: connects to `address` only.
std::shared_ptr<tensorpipe::transport::Context> MakeDialContext(
    std::shared_ptr<HubState> hub, SessionKey session, DataAddress address,
    ContextEvents events);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_DIAL_CONTEXT_H_
