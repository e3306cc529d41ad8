#ifndef TENSORFERRY_CONTROL_CHANNEL_H_
#define TENSORFERRY_CONTROL_CHANNEL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/security.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/status.h"

namespace tensorferry {

// A channel to the control address of a peer, set up as every client of a peer
// wants it.
struct PeerChannel {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::string authorization;  // "Bearer ..." of each call; may be empty
  std::string hint;           // what may be amiss if a connection is closed

  // Before a call: adds what it shows.
  void Prepare(grpc::ClientContext& context) const;
  // What came of a call, with what may be behind it.
  absl::Status ToStatus(const grpc::Status& status) const;
};

// It takes answers of at most `max_answer_bytes`. INVALID_ARGUMENT: the
// address, what does not go together, a file that is not what it should be; the
// system's error for one that cannot be read. FAILED_PRECONDITION: it would be
// plain text beyond loopback, and `security` does not say that it may.
// PERMISSION_DENIED: a token would go to a unix socket of another user's, see
// CheckListenerIsTrusted, or UNAVAILABLE: that cannot be told.
absl::StatusOr<PeerChannel> OpenChannel(const std::string& address,
                                        int max_answer_bytes,
                                        const ClientSecurity& security);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CHANNEL_H_
