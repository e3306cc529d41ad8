#include "control/channel.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "control/address.h"
#include "control/grpc_bounds.h"
#include "control/grpc_credentials.h"
#include "control/grpc_status.h"
#include "control/reloaded_file.h"
#include "control/tokens.h"
#include "grpcpp/create_channel.h"

namespace tensorferry {
namespace {

grpc::ChannelArguments ArgumentsOf(const ClientSecurity& security,
                                   int max_answer_bytes) {
  grpc::ChannelArguments arguments;
  // A proxy of the environment is for the web, not for peers.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Otherwise a peer that was away shortly stays unavailable to new clients
  // for as long as older ones back off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetMaxReceiveMessageSize(max_answer_bytes);
  KeepAlive(arguments);
  if (!security.server_name.empty()) {
    arguments.SetSslTargetNameOverride(security.server_name);
  }
  return arguments;
}

absl::StatusOr<std::string> AuthorizationOf(const ClientSecurity& security) {
  if (security.token_file.empty()) return std::string();
  FileStamp stamp;
  FERRY_ASSIGN_OR_RETURN(const std::string text,
                         ReadSmallFile(security.token_file, &stamp));
  absl::StatusOr<std::string> token = ParseToken(text);
  if (token.ok()) return absl::StrCat("Bearer ", *token);
  return absl::InvalidArgumentError(absl::StrCat(
      security.token_file, ": ", std::string(token.status().message())));
}

absl::Status NoteToken(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status)) return status;
  return absl::PermissionDeniedError(absl::StrCat(
      std::string(status.message()),
      ": the token is not sent there; leave token_file out if that peer is to "
      "know you by your user"));
}

std::string HintOf(bool is_unix, const ClientSecurity& security) {
  if (is_unix) return "it lets in its own user, and others by its policy";
  if (security.tls_ca.empty()) return "if it wants TLS, give tls_ca";
  if (security.tls_cert.empty()) {
    return "if it wants a client certificate, give tls_cert and tls_key";
  }
  return "it may not trust the certificate tls_cert, or not speak TLS";
}

}  // namespace

void PeerChannel::Prepare(grpc::ClientContext& context) const {
  if (!authorization.empty())
    context.AddMetadata("authorization", authorization);
}

absl::Status PeerChannel::ToStatus(const grpc::Status& status) const {
  absl::Status converted = FromGrpcStatus(status);
  // gRPC's texts for a connection that the peer ended in its first moments.
  const bool cut_off =
      converted.code() == absl::StatusCode::kUnavailable &&
      (absl::StrContains(converted.message(), "Socket closed") ||
       absl::StrContains(converted.message(), "reset by peer"));
  if (!cut_off || hint.empty()) return converted;
  return absl::UnavailableError(
      absl::StrCat(converted.message(), " (", hint, ")"));
}

absl::StatusOr<PeerChannel> OpenChannel(const std::string& address,
                                        int max_answer_bytes,
                                        const ClientSecurity& security) {
  FERRY_RETURN_IF_ERROR(ValidateControlAddress(address));
  FERRY_RETURN_IF_ERROR(CheckSecurity(security));
  const bool is_unix = absl::StartsWith(address, "unix:");
  PeerChannel result;
  result.address = address;
  result.hint = HintOf(is_unix, security);
  if (!is_unix && security.tls_ca.empty() && !IsLoopback(address)) {
    if (!security.insecure || !security.token_file.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          address,
          " is beyond this host: give tls_ca, so that it is spoken to "
          "over TLS (plain text is for insecure, and never with a token)"));
    }
  }
  FERRY_ASSIGN_OR_RETURN(result.authorization, AuthorizationOf(security));
  if (!result.authorization.empty()) {
    FERRY_RETURN_IF_ERROR(NoteToken(CheckListenerIsTrusted(address)));
  }
  // On a unix socket the kernel tells the peer who we are. Who the peer is is
  // up to the permissions of the folder.
  result.channel =
      grpc::CreateCustomChannel(address,
                                is_unix ? grpc::InsecureChannelCredentials()
                                        : MakeChannelCredentials(security),
                                ArgumentsOf(security, max_answer_bytes));
  return result;
}

}  // namespace tensorferry
