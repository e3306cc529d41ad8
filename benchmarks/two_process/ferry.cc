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
  FerrySender(std::shared_ptr<Session> session, FerryWay way)
      : session_(std::move(session)), way_(std::move(way)) {}

  absl::Status Send(const Contents& contents) override {
    TensorMessage message;
    message.tensors = contents.tensors;
    message.names = contents.names;
    SendOptions options;
    options.lend = way_.lend;
    FERRY_RETURN_IF_ERROR(
        blocking::Send(*session_, std::move(message), std::move(options))
            .status());
    if (!way_.read) return absl::OkStatus();
    return blocking::Receive(*session_).status();
  }

 private:
  const std::shared_ptr<Session> session_;
  const FerryWay way_;
};

class FerryReceiver : public Receiver {
 public:
  FerryReceiver(std::shared_ptr<Session> session, FerryReceiverWay way)
      : session_(std::move(session)), way_(way) {}

  void Arm(const Contents& like, bool reuse) override {
    ReceiveOptions options;
    options.timeout = kPatience;
    options.leases = way_.leases;
    options.done_is_quick = true;  // as with blocking::Receive
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
    if (way_.read) {
      TensorMessage done;
      done.payload = Fingerprint(received.message.tensors);
      FERRY_RETURN_IF_ERROR(
          blocking::Send(*session_, std::move(done)).status());
    }
    return std::move(received.message.tensors);
  }

 private:
  const std::shared_ptr<Session> session_;
  const FerryReceiverWay way_;
  absl::StatusOr<Received> received_;
  std::unique_ptr<absl::Notification> taken_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Sender>> ConnectFerry(Peer& peer,
                                                     const std::string& address,
                                                     const std::string& path,
                                                     FerryWay way) {
  Offer offer;
  offer.paths = {path};
  offer.digests = way.digests;
  FERRY_ASSIGN_OR_RETURN(
      auto session,
      blocking::Connect(peer, address, std::move(offer), kPatience));
  return std::make_unique<FerrySender>(std::move(session), std::move(way));
}

std::unique_ptr<Receiver> MakeFerryReceiver(std::shared_ptr<Session> session,
                                            FerryReceiverWay way) {
  return std::make_unique<FerryReceiver>(std::move(session), way);
}

}  // namespace tensorferry::benchmarks
