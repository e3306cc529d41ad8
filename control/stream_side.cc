#include "control/stream_side.h"

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"

namespace tensorferry {
namespace {

// How long an end may wait for the peer and for gRPC.
constexpr absl::Duration kLinger = absl::Seconds(2);
// A peer with the shortest lease there is gets a heartbeat this often.
constexpr absl::Duration kShortestTick = absl::Milliseconds(10);
// Besides heartbeats an honest peer sends a handful of messages.
constexpr int64_t kMostOtherMessages = 1000;

}  // namespace

// Outlives its side in the hands of users, so it must not touch the loop once
// the side has ended.
class StreamSide::Handle : public ControlStream {
 public:
  explicit Handle(std::shared_ptr<StreamSide> side) : side_(std::move(side)) {}

  void SendOpened() override {
    Post([](StreamSide& side) {
      if (side.role_ == Role::kCallee) side.Send({Signal::Kind::kOpened, {}});
    });
  }
  void SendDrain() override {
    Post([](StreamSide& side) { side.Send({Signal::Kind::kDrain, {}}); });
  }
  void SendGoodbye(absl::Status why) override {
    Post([why = std::move(why)](StreamSide& side) { side.End(why, true); });
  }

  void Detach() {
    std::shared_ptr<StreamSide> dropped;  // destroyed after the lock
    absl::MutexLock lock(&mu_);
    dropped = std::move(side_);
  }

 private:
  template <class Action>
  void Post(Action action) {
    absl::MutexLock lock(&mu_);
    if (side_ == nullptr) return;
    side_->loop_->Post([side = side_, action] { action(*side); });
  }

  absl::Mutex mu_;
  std::shared_ptr<StreamSide> side_ ABSL_GUARDED_BY(mu_);
};

StreamSide::StreamSide(Role role, Scheduler* loop, absl::Duration heartbeat)
    : role_(role), loop_(loop), tick_(heartbeat) {}

void StreamSide::Begin() {
  self_ = shared_from_this();
  handle_ = std::make_shared<Handle>(self_);
}

std::shared_ptr<ControlStream> StreamSide::handle() const { return handle_; }

void StreamSide::Send(Signal signal) {
  if (ending_) return;
  // Saying it twice adds nothing, and a peer that does not read must not make
  // us keep more and more.
  bool waits = std::any_of(
      outbox_.begin(), outbox_.end(),
      [&](const Signal& other) { return other.kind == signal.kind; });
  if (!waits) outbox_.push_back(std::move(signal));
  Pump();
}

void StreamSide::SendFirst(Signal signal) {
  outbox_.push_front(std::move(signal));
  Pump();
}

void StreamSide::Resume() {
  paused_ = false;
  Pump();
}

void StreamSide::DropAllButGoodbye() {
  auto other = [](const Signal& signal) {
    return signal.kind != Signal::Kind::kGoodbye;
  };
  outbox_.erase(std::remove_if(outbox_.begin(), outbox_.end(), other),
                outbox_.end());
}

void StreamSide::GoLive(absl::Duration peer_lease) {
  tick_ = std::max(kShortestTick, std::min(tick_, peer_lease / 3));
  ScheduleTick();
}

void StreamSide::ScheduleTick() {
  tick_timer_ = loop_->RunAt(loop_->clock()->Now() + tick_,
                             [self = shared_from_this()] { self->Tick(); });
}

void StreamSide::Tick() {
  if (ending_) return;
  ScheduleTick();
  messages_since_tick_ = 0;
  Send({Signal::Kind::kHeartbeat, {}});
}

void StreamSide::RunCallback(absl::FunctionRef<void()> callback) {
  absl::Status ran = CatchExceptions("a callback", callback);
  if (!ran.ok()) End(std::move(ran), true);
}

bool StreamSide::CountMessage() {
  const int64_t most = kMostOtherMessages + tick_ / kShortestTick;
  if (++messages_since_tick_ <= most) return true;
  End(absl::ResourceExhaustedError(
          absl::StrCat("more than ", most, " messages on the control stream ",
                       "within ", absl::FormatDuration(tick_))),
      true);
  return false;
}

void StreamSide::End(absl::Status why, bool say) {
  if (ending_) return;
  ending_ = true;
  why_ = std::move(why);
  loop_->CancelTimer(tick_timer_);
  if (say) {
    outbox_.push_back({Signal::Kind::kGoodbye, why_});
  } else {
    outbox_.clear();
  }
  linger_timer_ = loop_->RunAt(loop_->clock()->Now() + kLinger,
                               [self = shared_from_this()] { self->Linger(); });
  OnEnding();
  if (!say) Ended();
  Pump();
}

void StreamSide::EndUnheard(absl::Status why) {
  if (ending_) return;
  End(std::move(why), true);
  Ended();
}

void StreamSide::Cut(absl::Status why) {
  End(std::move(why), false);
  CancelWire();
}

void StreamSide::Pump() {
  if (paused_ || writing_) return;
  if (broken_) outbox_.clear();
  if (!outbox_.empty()) {
    Signal signal = std::move(outbox_.front());
    outbox_.pop_front();
    writing_ = true;
    StartWriteOf(signal);
  } else if (ending_ && !closed_) {
    closed_ = true;
    CloseWire(why_);
  }
}

void StreamSide::WriteDone(bool ok) {
  writing_ = false;
  if (!ok) broken_ = true;  // the read that is under way fails too, and says so
  Pump();
}

void StreamSide::WireBroken() {
  broken_ = true;
  Pump();
}

void StreamSide::Linger() {
  CancelWire();
  Ended();
}

void StreamSide::Ended() {
  if (ended_) return;
  ended_ = true;
  handle_->Detach();
  OnEnded();
}

void StreamSide::WireDone() {
  loop_->CancelTimer(linger_timer_);
  Ended();
  OnGone();
  self_.reset();  // the task that runs this holds another reference
}

}  // namespace tensorferry
