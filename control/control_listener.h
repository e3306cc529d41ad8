#ifndef TENSORFERRY_CONTROL_CONTROL_LISTENER_H_
#define TENSORFERRY_CONTROL_CONTROL_LISTENER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "control/access.h"
#include "control/security.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

// Listens at a control address for a gRPC server. gRPC's own listener does not
// say which user is behind a unix socket, and ends for good when the process is
// out of descriptors; this one waits until there are some. Through a unix
// socket it lets in our own user, and the first 15 others in its life that come
// and that `access` admits.
class ControlListener {
 public:
  // Listens, and adds itself to `builder`, before the server is built.
  // `address` is valid. UNAVAILABLE: it is in use or not this host's.
  // RESOURCE_EXHAUSTED: no descriptors. INVALID_ARGUMENT, or the system's
  // error: security.
  static absl::StatusOr<std::unique_ptr<ControlListener>> Listen(
      const std::string& address, const ServerSecurity& security,
      std::shared_ptr<const Access> access, grpc::ServerBuilder& builder);

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
