// What a program without exceptions includes to control peers. It must compile
// with -fno-exceptions, and that is all it is for.
#include "control/address.h"
#include "control/capabilities.h"
#include "control/control_client.h"
#include "control/control_service.h"
#include "control/control_stream.h"
#include "control/lease.h"
#include "control/negotiate.h"
#include "control/offer.h"
#include "control/session_host.h"
#include "control/session_plan.h"
#include "control/session_table.h"
#include "control/standard_services.h"
#include "control/wire_version.h"

#if defined(GOOGLE_PROTOBUF_VERSION) || defined(GRPCPP_SERVER_BUILDER_H) || \
    defined(GRPCPP_CLIENT_CONTEXT_H) || defined(GRPCPP_CHANNEL_H)
#error "a public header of control/ includes protobuf or gRPC"
#endif

namespace tensorferry {
namespace testing {

// Instantiates what the headers only declare.
void UseControlClient(ControlClient& client) {
  client.GetCapabilities(absl::Seconds(1), [](absl::StatusOr<Capabilities>) {});
  client.OpenSession({}, {}, nullptr, absl::Seconds(1),
                     [](absl::StatusOr<ControlClient::Accepted>) {});
}

}  // namespace testing
}  // namespace tensorferry
