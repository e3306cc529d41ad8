#ifndef TENSORFERRY_CLI_SECURITY_FLAGS_H_
#define TENSORFERRY_CLI_SECURITY_FLAGS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "cli/arguments.h"
#include "cli/output.h"
#include "control/security.h"

namespace tensorferry::cli {

// Flags of all commands that call a peer: --tls_ca, --tls_cert, --tls_key,
// --token_file, --server_name, --insecure.
std::vector<Flag> CallingFlags();
ClientSecurity ClientSecurityOf(const Arguments& arguments);

// Flags of serve: --tls_cert, --tls_key, --tls_client_ca, --token_file,
// --policy, --unix_mode, --insecure.
std::vector<Flag> ServingFlags();
// What is read again is told in the log. UsageError: --unix_mode. Else what
// PolicyFile::Open says of --policy.
absl::StatusOr<ServerSecurity> ServerSecurityOf(const Arguments& arguments,
                                                const Output& output);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_SECURITY_FLAGS_H_
