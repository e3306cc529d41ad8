#include "benchmarks/two_process/ferry.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "base/status_macros.h"
#include "session/blocking.h"

namespace tensorferry::benchmarks {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);

class FerrySender : public Sender {
 public:
  explicit FerrySender(std::shared_ptr<Session> session)
      : session_(std::move(session)) {}

  absl::Status Send(const Contents& contents) override {
    TensorMessage message;
    message.tensors = contents.tensors;
    message.names = contents.names;
    return blocking::Send(*session_, std::move(message)).status();
  }

 private:
  const std::shared_ptr<Session> session_;
};

class FerryReceiver : public Receiver {
 public:
  explicit FerryReceiver(std::shared_ptr<Session> session)
      : session_(std::move(session)) {}

  void Arm(const Contents& like, bool reuse) override {
    ReceiveOptions options;
    options.timeout = kPatience;
    if (reuse) options.into = {like.tensors, like.names};
    taken_ = std::make_unique<absl::Notification>();
    session_->Receive(std::move(options),
                      [this](absl::StatusOr<Received> received) {
                        received_ = std::move(received);
                        taken_->Notify();
                      });
  }

  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    taken_->WaitForNotification();
    FERRY_ASSIGN_OR_RETURN(Received received, std::move(received_));
    return std::move(received.message.tensors);
  }

 private:
  const std::shared_ptr<Session> session_;
  absl::StatusOr<Received> received_;
  std::unique_ptr<absl::Notification> taken_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Sender>> ConnectFerry(Peer& peer,
                                                     const std::string& address,
                                                     const std::string& path,
                                                     bool digests) {
  Offer offer;
  offer.paths = {path};
  offer.digests = digests;
  FERRY_ASSIGN_OR_RETURN(
      auto session,
      blocking::Connect(peer, address, std::move(offer), kPatience));
  return std::make_unique<FerrySender>(std::move(session));
}

std::unique_ptr<Receiver> MakeFerryReceiver(std::shared_ptr<Session> session) {
  return std::make_unique<FerryReceiver>(std::move(session));
}

}  // namespace tensorferry::benchmarks
