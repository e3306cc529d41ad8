#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "benchmarks/neighbours/neighbour.h"
#include "benchmarks/two_process/ferry.h"
#include "session/peer.h"

namespace tensorferry::benchmarks {
namespace {

PeerOptions OptionsFor(std::string name) {
  PeerOptions options;
  options.name = std::move(name);
  // The processes are stopped while it is others' turn.
  options.lease = absl::Hours(1);
  return options;
}

class FerryAcceptor : public Acceptor {
 public:
  explicit FerryAcceptor(std::unique_ptr<Peer> peer) : peer_(std::move(peer)) {
    peer_->Accept([this](std::shared_ptr<Session> session) {
      session_ = std::move(session);
      accepted_.Notify();  // there is one sender
    });
  }

  const std::string& address() const override {
    return peer_->control_address();
  }

  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    accepted_.WaitForNotification();
    return MakeFerryReceiver(std::move(session_));
  }

 private:
  std::shared_ptr<Session> session_;
  absl::Notification accepted_;
  const std::unique_ptr<Peer> peer_;
};

// Its session needs the peer.
class SenderWithPeer : public Sender {
 public:
  SenderWithPeer(std::unique_ptr<Peer> peer, std::unique_ptr<Sender> sender)
      : peer_(std::move(peer)), sender_(std::move(sender)) {}

  absl::Status Send(const Contents& contents) override {
    return sender_->Send(contents);
  }

 private:
  const std::unique_ptr<Peer> peer_;
  const std::unique_ptr<Sender> sender_;
};

absl::StatusOr<std::unique_ptr<Acceptor>> Listen() {
  FERRY_ASSIGN_OR_RETURN(auto peer, Peer::Create(OptionsFor("receiver")));
  return std::make_unique<FerryAcceptor>(std::move(peer));
}

absl::StatusOr<std::unique_ptr<Sender>> Connect(const std::string& address,
                                                const std::string& path,
                                                bool digests) {
  PeerOptions options = OptionsFor("sender");
  options.control = "";
  FERRY_ASSIGN_OR_RETURN(auto peer, Peer::Create(std::move(options)));
  FERRY_ASSIGN_OR_RETURN(
      auto sender, ConnectFerry(*peer, address, path, {.digests = digests}));
  return std::make_unique<SenderWithPeer>(std::move(peer), std::move(sender));
}

}  // namespace

Neighbour FerryNeighbour(std::string path, bool digests) {
  return {.listen = Listen, .connect = [=](const std::string& address) {
            return Connect(address, path, digests);
          }};
}

}  // namespace tensorferry::benchmarks
