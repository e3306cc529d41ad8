#ifndef TENSORFERRY_CONTROL_CONTROL_LISTENER_H_
#define TENSORFERRY_CONTROL_CONTROL_LISTENER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "control/access.h"
#include "control/security.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

struct ControlListenerOptions {
  std::string address;  // a valid one
  ServerSecurity security;
  std::shared_ptr<const Access> access;  // not null
  // Over TCP: connections that have not said their first word. Each has 10 s
  // for it, or 2 s where descriptors are scarce; if there are more, the oldest
  // is closed.
  int max_silent = 256;
  // Those that have. When there are as many, others wait in the system's queue.
  int64_t max_connections = 512;
  int max_calls = 320;  // at a time, on one connection
  // See BoundServer in control/grpc_bounds.h.
  absl::Duration lease = absl::Seconds(15);
  Clock* clock = Clock::Real();  // of those that are silent; outlives it
};

// Listens at a control address for a gRPC server. gRPC's own listener does not
// say which user is behind a unix socket, takes any number of connections that
// say nothing, and ends for good when the process is out of descriptors; this
// one waits until there are some. Through a unix socket it lets in our own
// user, and the first 15 others in its life that come and that `access` admits.
class ControlListener {
 public:
  // Listens, and adds itself to `builder` with bounds on what callers can cost,
  // before the server is built. UNAVAILABLE: the address is in use or not this
  // host's. RESOURCE_EXHAUSTED: no descriptors. INVALID_ARGUMENT, or the
  // system's error: security.
  static absl::StatusOr<std::unique_ptr<ControlListener>> Listen(
      ControlListenerOptions options, grpc::ServerBuilder& builder);

  // Takes no more connections, and removes a unix socket's file, if it is still
  // the one that it made.
  virtual ~ControlListener() = default;

  // With the port that it has.
  virtual const std::string& address() const = 0;
  // Once the server runs.
  virtual void Start() = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CONTROL_LISTENER_H_
