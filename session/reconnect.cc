#include "session/reconnect.h"

#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/loop.h"
#include "base/random_bytes.h"
#include "base/user_code.h"

namespace tensorferry {

// Only spreads the tries of many: 0 will do where the system gives no bytes.
uint32_t RandomSeed() {
  uint32_t seed = 0;
  return RandomBytes(&seed, sizeof(seed)).ok() ? seed : 0;
}

// Callbacks of the peer may come after the end, so they hold it weakly.
class KeptSession::State : public std::enable_shared_from_this<State> {
 public:
  State(Peer* peer, std::string address, Offer offer, ReconnectOptions options,
        OnSession on_session, DoneStatus on_stopped)
      : peer_(peer),
        address_(std::move(address)),
        offer_(std::move(offer)),
        options_(options),
        on_session_(std::move(on_session)),
        on_stopped_(std::move(on_stopped)),
        back_off_(options.back_off, RandomSeed()),
        loop_(std::make_unique<Loop>(options.clock)) {}

  void Connect() {
    peer_->Connect(address_, offer_, options_.timeout,
                   [weak = weak_from_this()](
                       absl::StatusOr<std::shared_ptr<Session>> session) {
                     auto self = weak.lock();
                     if (self != nullptr) self->OnConnected(std::move(session));
                   });
  }

  // Waits for a try that is just beginning and for a callback that runs, unless
  // it is called there; begins none any more.
  void Stop() {
    DoneStatus on_stopped;
    std::unique_ptr<Loop> loop;
    {
      absl::MutexLock lock(&mu_);
      on_stopped = std::exchange(on_stopped_, nullptr);
      loop = std::move(loop_);
    }
    // A callback may run there, and then it cannot await itself.
    if (loop->OnLoopThread()) std::thread([loop = std::move(loop)] {}).detach();
    loop = nullptr;
    AwaitNoCallback();
    if (on_stopped) {
      std::move(on_stopped)(absl::CancelledError("no longer kept"));
    }
  }

 private:
  void OnConnected(absl::StatusOr<std::shared_ptr<Session>> session) {
    if (!session.ok()) return OnFailure(session.status());
    {
      absl::MutexLock lock(&mu_);
      if (!on_stopped_) return;  // dropping it closes it
      callback_runs_on_ = std::this_thread::get_id();
    }
    const absl::Time opened_at = options_.clock->Now();
    RunUserCode("on_session", [&] { on_session_(*session); }).IgnoreError();
    CallbackHasRun();
    // Not before: on_stopped comes last.
    (*session)->OnEnd(
        [weak = weak_from_this(), opened_at](SessionReport report) {
          if (auto self = weak.lock())
            self->OnSessionEnd(opened_at, report.why);
        });
  }

  void OnSessionEnd(absl::Time opened_at, const absl::Status& why) {
    {
      absl::MutexLock lock(&mu_);
      back_off_.Lived(options_.clock->Now() - opened_at);
    }
    OnFailure(why);
  }

  void OnFailure(absl::Status why) {
    DoneStatus on_stopped;
    {
      absl::MutexLock lock(&mu_);
      if (!on_stopped_) return;
      if (std::optional<absl::Duration> pause = back_off_.After(why)) {
        loop_->RunAt(options_.clock->Now() + *pause, [this] { Connect(); });
        return;
      }
      on_stopped = std::exchange(on_stopped_, nullptr);
      callback_runs_on_ = std::this_thread::get_id();
    }
    RunUserCode("on_stopped", [&] {
      std::move(on_stopped)(std::move(why));
    }).IgnoreError();
    CallbackHasRun();
  }

  void CallbackHasRun() {
    absl::MutexLock lock(&mu_);
    callback_runs_on_ = std::thread::id();
  }

  void AwaitNoCallback() {
    absl::MutexLock lock(&mu_);
    if (callback_runs_on_ == std::this_thread::get_id()) return;
    auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return callback_runs_on_ == std::thread::id();
    };
    mu_.Await(absl::Condition(&none));
  }

  Peer* const peer_;
  const std::string address_;
  const Offer offer_;
  const ReconnectOptions options_;
  const OnSession on_session_;

  absl::Mutex mu_;
  DoneStatus on_stopped_ ABSL_GUARDED_BY(mu_);  // until it has run
  BackOff back_off_ ABSL_GUARDED_BY(mu_);
  std::thread::id callback_runs_on_ ABSL_GUARDED_BY(mu_);  // one at a time
  // Of the pauses; until Stop, so that its tasks do not outlive this.
  std::unique_ptr<Loop> loop_ ABSL_GUARDED_BY(mu_);
};

KeptSession::KeptSession(Peer* peer, std::string address, Offer offer,
                         ReconnectOptions options, OnSession on_session,
                         DoneStatus on_stopped)
    : state_(std::make_shared<State>(peer, std::move(address), std::move(offer),
                                     options, std::move(on_session),
                                     std::move(on_stopped))) {
  state_->Connect();
}

KeptSession::~KeptSession() {
  if (home_.IsThis()) {
    state_->Stop();
  } else {
    new std::shared_ptr<State>(std::move(state_));  // the parent's: left alone
  }
}

}  // namespace tensorferry
