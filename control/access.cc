#include "control/access.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/server_context.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "control/text.h"

namespace tensorferry {
namespace {

// gRPC keeps all kinds of subject alternative names in one property.
void AddCertificate(const grpc::AuthContext& context, Identity& identity) {
  auto names = context.FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME);
  if (names.empty()) {
    names = context.FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
  }
  for (const grpc::string_ref& name : names) {
    if (name.empty()) continue;
    identity.principals.push_back(absl::StrCat(
        "cert:", CleanLine(absl::string_view(name.data(), name.size()))));
  }
}

void AddUser(const grpc::AuthContext& context, Identity& identity) {
  for (const grpc::string_ref& uid :
       context.FindPropertyValues(kUserProperty)) {
    identity.principals.push_back(
        absl::StrCat("uid:", absl::string_view(uid.data(), uid.size())));
  }
}

class NothingGiven final : public Authorizer {
 public:
  Grants GrantsOf(const Identity&) const override { return {}; }
};

}  // namespace

std::shared_ptr<const Access> Access::Everybody() {
  return std::shared_ptr<const Access>(new Access);
}

std::shared_ptr<const Access> Access::Nobody() {
  std::shared_ptr<Access> access(new Access);
  access->authorizer_ = std::make_shared<const NothingGiven>();
  return access;
}

absl::StatusOr<std::shared_ptr<const Access>> Access::Create(
    const ServerSecurity& security) {
  std::shared_ptr<Access> access(new Access);
  if (!security.token_file.empty()) {
    FERRY_ASSIGN_OR_RETURN(
        access->tokens_, TokenFile::Open(security.token_file, ParseKnownTokens,
                                         security.on_reload));
  }
  access->certificates_ = !security.tls_client_ca.empty();
  access->authorizer_ = security.authorizer;
  return access;
}

absl::Status Access::AddToken(const grpc::ServerContextBase& context,
                              Identity& identity) const {
  if (tokens_ == nullptr) return absl::OkStatus();
  const auto [begin, end] =
      context.client_metadata().equal_range("authorization");
  if (begin == end) return absl::OkStatus();
  if (std::next(begin) != end) {
    return absl::UnauthenticatedError("the call has several authorizations");
  }
  FERRY_ASSIGN_OR_RETURN(const std::string token,
                         BearerToken(absl::string_view(begin->second.data(),
                                                       begin->second.size())));
  const auto name = NameOfToken(*tokens_->Get(), token);
  if (!name) {
    return absl::UnauthenticatedError(
        "the token of the call is none that this peer knows");
  }
  identity.principals.push_back(absl::StrCat("token:", *name));
  return absl::OkStatus();
}

absl::StatusOr<Identity> Access::Identify(
    const grpc::ServerContextBase& context) const {
  Identity identity;
  FERRY_RETURN_IF_ERROR(AddToken(context, identity));
  if (const auto connection = context.auth_context(); connection != nullptr) {
    AddCertificate(*connection, identity);
    AddUser(*connection, identity);
  }
  if (!identity.principals.empty()) return identity;
  if (certificates_ && tokens_ != nullptr) {
    return absl::UnauthenticatedError(
        "the call has neither a client certificate (tls_cert) nor a token "
        "(token_file), and this peer wants one of them");
  }
  if (tokens_ != nullptr) {
    return absl::UnauthenticatedError(
        "the call has no token (token_file), and this peer wants one");
  }
  if (certificates_) {
    return absl::UnauthenticatedError(
        "the call has no client certificate with a name in it (tls_cert), and "
        "this peer wants one");
  }
  return identity;
}

absl::StatusOr<Caller> Access::Admit(
    const grpc::ServerContextBase& context) const {
  Caller caller;
  FERRY_ASSIGN_OR_RETURN(caller.identity, Identify(context));
  caller.grants = GrantsOf(caller.identity);
  return caller;
}

Grants Access::GrantsOf(const Identity& identity) const {
  return authorizer_ != nullptr ? authorizer_->GrantsOf(identity)
                                : Grants::All();
}

// One who is given nothing at all would be refused at every call.
bool Access::AdmitsUser(uid_t uid) const {
  if (uid == geteuid()) return true;
  if (authorizer_ == nullptr) return false;
  const Grants grants =
      authorizer_->GrantsOf({.principals = {absl::StrCat("uid:", uid)}});
  return grants.sessions > 0 || grants.describe || grants.administer ||
         !grants.list.empty();
}

}  // namespace tensorferry
