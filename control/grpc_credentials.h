// Internal to control/: what gRPC needs to know of control/security.h.
#ifndef TENSORFERRY_CONTROL_GRPC_CREDENTIALS_H_
#define TENSORFERRY_CONTROL_GRPC_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/security.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace tensorferry {

// INVALID_ARGUMENT: fields that do not go together, a file that is no PEM, a
// key of another certificate; the system's error for one that cannot be read.
absl::Status CheckSecurity(const ServerSecurity& security);
absl::Status CheckSecurity(const ClientSecurity& security);

// Over TCP; the files have been checked.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    const ServerSecurity& security);
std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const ClientSecurity& security);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_GRPC_CREDENTIALS_H_
