#include "session/blocking.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "base/await.h"

namespace tensorferry::blocking {

absl::StatusOr<std::shared_ptr<Session>> Connect(Peer& peer,
                                                 const std::string& address,
                                                 Offer offer,
                                                 absl::Duration timeout) {
  return Await<std::shared_ptr<Session>>([&](auto done) {
    peer.Connect(address, std::move(offer), timeout, std::move(done));
  });
}

absl::StatusOr<Explanation> Explain(Peer& peer, const std::string& address,
                                    Offer offer, absl::Duration timeout) {
  return Await<Explanation>([&](auto done) {
    peer.Explain(address, std::move(offer), timeout, std::move(done));
  });
}

absl::StatusOr<Receipt> Send(Session& session, TensorMessage message,
                             SendOptions options) {
  options.done_is_quick = true;
  return Await<Receipt>([&](auto done) {
    session.Send(std::move(message), std::move(options), std::move(done));
  });
}

absl::StatusOr<Received> Receive(Session& session, ReceiveOptions options) {
  options.done_is_quick = true;
  return Await<Received>(
      [&](auto done) { session.Receive(std::move(options), std::move(done)); });
}

absl::StatusOr<Received> Call(Session& session, TensorMessage request,
                              CallOptions options) {
  options.done_is_quick = true;
  return Await<Received>([&](auto done) {
    session.Call(std::move(request), std::move(options), std::move(done));
  });
}

absl::StatusOr<SessionReport> Close(Session& session, absl::Duration drain) {
  return Await<SessionReport>(
      [&](auto done) { session.Close(drain, std::move(done)); });
}

absl::Status Shutdown(Peer& peer, absl::Duration drain) {
  absl::Notification ended;
  absl::Status result;
  peer.Shutdown(drain, [&](absl::Status status) {
    result = std::move(status);
    ended.Notify();
  });
  ended.WaitForNotification();
  return result;
}

}  // namespace tensorferry::blocking
