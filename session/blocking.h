#ifndef TENSORFERRY_SESSION_BLOCKING_H_
#define TENSORFERRY_SESSION_BLOCKING_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "session/peer.h"
#include "session/session.h"

namespace tensorferry::blocking {

// Twins of the asynchronous calls that wait for their end, for whoever has a
// thread to wait on. Never call them from a callback: the executor's threads
// and the loop are what they wait for. Each ends by its operation's own
// timeout; Receive has none unless its options say so. They set done_is_quick.
absl::StatusOr<std::shared_ptr<Session>> Connect(Peer& peer,
                                                 const std::string& address,
                                                 Offer offer,
                                                 absl::Duration timeout);
absl::StatusOr<Explanation> Explain(Peer& peer, const std::string& address,
                                    Offer offer, absl::Duration timeout);
absl::StatusOr<Receipt> Send(Session& session, TensorMessage message,
                             SendOptions options = {});
absl::StatusOr<Received> Receive(Session& session, ReceiveOptions options = {});
absl::StatusOr<Received> Call(Session& session, TensorMessage request,
                              CallOptions options = {});
absl::StatusOr<SessionReport> Close(Session& session, absl::Duration drain);
absl::Status Shutdown(Peer& peer, absl::Duration drain);

}  // namespace tensorferry::blocking

#endif  // TENSORFERRY_SESSION_BLOCKING_H_
