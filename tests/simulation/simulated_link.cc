#include "tests/simulation/simulated_link.h"

#include <functional>
#include <memory>
#include <utility>

namespace tensorferry {
namespace simulation {
namespace {

// The lanes want what can be copied.
std::function<void(absl::Status)> Once(DoneStatus done) {
  return [done = std::make_shared<DoneStatus>(std::move(done))](
             absl::Status status) { std::move (*done)(std::move(status)); };
}

}  // namespace

Operation SimulatedLink::Send(TensorMessage, Envelope, SendOptions,
                              Done<Receipt> done) {
  if (closing_) fail_("a session sends over a link that it closes");
  loop_->Post(
      [done = std::move(done)]() mutable { std::move(done)(Receipt()); });
  return Operation();
}

Operation SimulatedLink::Receive(ReceiveOptions options, Done<Received> done) {
  if (closing_) fail_("a session receives over a link that it closes");
  const uint64_t id = ++last_;
  const auto timer =
      loop_->RunAt(loop_->clock()->Now() + options.timeout, [this, id] {
        EndReceive(id, absl::DeadlineExceededError("nobody answers"));
      });
  receives_.emplace(id, Pending{std::move(done), timer});
  return Operation(
      [this, id] { EndReceive(id, absl::CancelledError("as was wished")); });
}

void SimulatedLink::EndReceive(uint64_t id, absl::Status why) {
  const auto receive = receives_.find(id);
  if (receive == receives_.end()) return;
  loop_->CancelTimer(receive->second.timer);
  loop_->Post(
      [done = std::move(receive->second.done), why = std::move(why)]() mutable {
        std::move(done)(std::move(why));
      });
  receives_.erase(receive);
}

void SimulatedLink::Drain(DoneStatus drained) {
  lanes_->Drain(end_, Once(std::move(drained)));
}

// What the machines of transfer need not know.
void SimulatedLink::AnnounceEnd(absl::Status) {
  if (closing_) fail_("a session announces the end of a link after it");
}

void SimulatedLink::Close(absl::Status why, DoneStatus closed) {
  closing_ = true;
  while (!receives_.empty()) {
    EndReceive(receives_.begin()->first,
               why.ok() ? absl::CancelledError("the link is closed") : why);
  }
  lanes_->Close(end_, std::move(why), [closed = Once(std::move(closed))] {
    closed(absl::OkStatus());
  });
}

}  // namespace simulation
}  // namespace tensorferry
