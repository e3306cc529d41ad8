#ifndef TENSORFERRY_CONTROL_ACCESS_H_
#define TENSORFERRY_CONTROL_ACCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "control/authorizer.h"
#include "control/identity.h"
#include "control/reloaded_file.h"
#include "control/security.h"
#include "control/tokens.h"

namespace grpc {
class ServerContextBase;
}  // namespace grpc

namespace tensorferry {

// Who a call is from, and what he may.
struct Caller {
  Identity identity;
  Grants grants;
};

// The door of a peer's gRPC services: every method asks it first. Thread-safe.
class Access {
 public:
  // Lets everybody do everything, as nobody in particular.
  static std::shared_ptr<const Access> Everybody();
  // Lets nobody do anything.
  static std::shared_ptr<const Access> Nobody();
  // INVALID_ARGUMENT, or the system's error: token_file.
  static absl::StatusOr<std::shared_ptr<const Access>> Create(
      const ServerSecurity& security);

  // UNAUTHENTICATED: what was missing from the call, or wrong.
  absl::StatusOr<Caller> Admit(const grpc::ServerContextBase& context) const;

  // What `identity` may do now.
  Grants GrantsOf(const Identity& identity) const;

  // Whether this user may come in through a unix socket.
  bool AdmitsUser(uid_t uid) const;

 private:
  using TokenFile = ReloadedFile<std::vector<KnownToken>>;

  Access() = default;
  absl::StatusOr<Identity> Identify(
      const grpc::ServerContextBase& context) const;
  absl::Status AddToken(const grpc::ServerContextBase& context,
                        Identity& identity) const;

  std::shared_ptr<TokenFile> tokens_;
  bool certificates_ = false;  // are asked for
  std::shared_ptr<const Authorizer> authorizer_;
};

// The property of a connection's grpc::AuthContext that holds the user behind a
// unix socket; set by ControlListener.
inline constexpr char kUserProperty[] = "tensorferry_uid";

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_ACCESS_H_
