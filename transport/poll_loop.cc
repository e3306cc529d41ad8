#include "transport/poll_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace tensorferry {
namespace {

constexpr int kEventsPerWait = 64;
constexpr uint64_t kWakeEvent = 0;  // no WatchId
// Who yields and gets its processor back only after so long shares it with
// somebody who does not sleep: one turn of the scheduler's takes 2 to 4 ms,
// as its slices and ticks are. A copy of 8 MiB, for which it pays to poll, 1.
constexpr absl::Duration kLongTurn = absl::Milliseconds(2);
// How long it then goes without polling.
constexpr absl::Duration kNoSpin = absl::Milliseconds(100);

}  // namespace

class PollLoop::Poller : public Loop::Waiter {
 public:
  static absl::StatusOr<std::unique_ptr<Poller>> Create(Clock* clock,
                                                        Polling polling) {
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll.valid()) return absl::ErrnoToStatus(errno, "epoll_create1");
    UniqueFd wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!wake.valid()) return absl::ErrnoToStatus(errno, "eventfd");
    auto poller = std::make_unique<Poller>(clock, std::move(polling),
                                           std::move(epoll), std::move(wake));
    FERRY_RETURN_IF_ERROR(poller->Control(EPOLL_CTL_ADD, poller->wake_.get(),
                                          EPOLLIN, kWakeEvent));
    return poller;
  }

  Poller(Clock* clock, Polling polling, UniqueFd epoll, UniqueFd wake)
      : clock_(clock),
        polling_(std::move(polling)),
        epoll_(std::move(epoll)),
        wake_(std::move(wake)),
        waker_(clock_->AddWaker([this] { Signal(); })) {}

  ~Poller() override { clock_->RemoveWaker(waker_); }

  void Wait(std::unique_lock<std::mutex>& lock, absl::Time until) override {
    woken_.store(false, std::memory_order_relaxed);
    const absl::Time since = polling_.now();
    const absl::Duration spin =
        since < no_spin_until_ ? absl::ZeroDuration()
                               : std::min(spin_, clock_->RealTimeUntil(until));
    if (spin > absl::ZeroDuration() && Spin(lock, since + spin)) return;
    sleeping_ = true;
    lock.unlock();
    Await(MillisecondsUntil(until));
    // What is posted from here on, not least by what is told, is looked for
    // before the next sleep, and needs no signal.
    sleeping_ = false;
    Learn(polling_.now() - since);
    TellAll();
    lock.lock();
  }

  void Poll(std::unique_lock<std::mutex>& lock) override {
    lock.unlock();
    Await(0);
    TellAll();
    lock.lock();
  }

  void Wake() override {
    woken_.store(true, std::memory_order_relaxed);
    // One write is enough, and none while nobody sleeps.
    if (sleeping_.exchange(false)) Signal();
  }

  absl::StatusOr<WatchId> Watch(int fd, uint32_t events,
                                std::shared_ptr<Watcher> watcher) {
    const WatchId id = next_id_++;
    FERRY_RETURN_IF_ERROR(Control(EPOLL_CTL_ADD, fd, events | EPOLLET, id));
    watches_.emplace(id, WatchedFd{fd, std::move(watcher)});
    return id;
  }

  absl::Status Rewatch(WatchId id, uint32_t events) {
    auto watch = watches_.find(id);
    if (watch == watches_.end()) {
      return absl::InternalError(absl::StrCat("watch ", id, " is over"));
    }
    return Control(EPOLL_CTL_MOD, watch->second.fd, events | EPOLLET, id);
  }

  void Unwatch(WatchId id) {
    auto watch = watches_.find(id);
    if (watch == watches_.end()) return;
    Control(EPOLL_CTL_DEL, watch->second.fd, 0, id).IgnoreError();
    // It may be the last owner of what calls us.
    std::shared_ptr<Watcher> dropped = std::move(watch->second.watcher);
    watches_.erase(watch);
  }

 private:
  struct WatchedFd {
    int fd;
    std::shared_ptr<Watcher> watcher;
  };

  absl::Status Control(int operation, int fd, uint32_t events, uint64_t id) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = id;
    if (epoll_ctl(epoll_.get(), operation, fd, &event) == 0) {
      return absl::OkStatus();
    }
    return absl::ErrnoToStatus(errno, "epoll_ctl");
  }

  void Signal() {
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t written = write(wake_.get(), &one, sizeof(one));
  }

  // Without the mutex: who posts must not have to fight for it. Whether there
  // is something to do.
  bool Spin(std::unique_lock<std::mutex>& lock, absl::Time until) {
    lock.unlock();
    for (absl::Time now = polling_.now();
         !Await(0) && !Woken() && now < until;) {
      polling_.yield();
      const absl::Time before = std::exchange(now, polling_.now());
      if (now - before < kLongTurn) continue;
      no_spin_until_ = now + kNoSpin;
      break;
    }
    const bool told = TellAll();
    lock.lock();
    return told || Woken();
  }

  void Learn(absl::Duration waited) {
    spin_ = waited < polling_.longest ? std::min(2 * waited, polling_.longest)
                                      : spin_ / 2;
  }

  bool Woken() const { return woken_.load(std::memory_order_relaxed); }

  int MillisecondsUntil(absl::Time until) const {
    const absl::Duration left = clock_->RealTimeUntil(until);
    if (left <= absl::ZeroDuration()) return 0;
    if (left >= absl::Hours(24))
      return left == absl::InfiniteDuration() ? -1 : 24 * 3600 * 1000;
    return static_cast<int>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
  }

  // Whether there are events.
  bool Await(int timeout_ms) {
    event_count_ =
        epoll_wait(epoll_.get(), events_, kEventsPerWait, timeout_ms);
    return event_count_ > 0;
  }

  // Whether there were events.
  bool TellAll() {
    for (int i = 0; i < event_count_; ++i) {
      Tell(events_[i].data.u64, events_[i].events);
    }
    return event_count_ > 0;
  }

  // Looked up one by one: a watcher may unwatch those after it.
  void Tell(uint64_t id, uint32_t events) {
    if (id == kWakeEvent) {
      uint64_t signals;
      [[maybe_unused]] ssize_t taken =
          read(wake_.get(), &signals, sizeof(signals));
      return;
    }
    auto watch = watches_.find(id);
    if (watch == watches_.end()) return;
    std::shared_ptr<Watcher> watcher = watch->second.watcher;
    watcher->OnReady(events);
  }

  Clock* const clock_;
  const Polling polling_;
  const UniqueFd epoll_;
  const UniqueFd wake_;
  const Clock::WakerId waker_;

  std::atomic<bool> sleeping_{false};  // set under the loop's mutex
  std::atomic<bool> woken_{false};     // since the wait began

  // On the loop.
  absl::Duration spin_;  // before the next sleep
  absl::Time no_spin_until_ = absl::InfinitePast();
  epoll_event events_[kEventsPerWait];
  int event_count_ = 0;  // of the last wait
  WatchId next_id_ = kWakeEvent + 1;
  absl::flat_hash_map<WatchId, WatchedFd> watches_;
};

absl::StatusOr<std::unique_ptr<PollLoop>> PollLoop::Create(Clock* clock,
                                                           Polling polling) {
  FERRY_ASSIGN_OR_RETURN(auto poller,
                         Poller::Create(clock, std::move(polling)));
  std::unique_ptr<PollLoop> loop;
  FERRY_RETURN_IF_ERROR(CatchExceptions("starting a loop", [&] {
    loop.reset(new PollLoop(clock, std::move(poller)));
  }));
  return loop;
}

PollLoop::PollLoop(Clock* clock, std::unique_ptr<Poller> poller)
    : Loop(clock, std::move(poller)), poller_(static_cast<Poller*>(waiter())) {}

PollLoop::~PollLoop() { Stop(); }

absl::StatusOr<PollLoop::WatchId> PollLoop::Watch(
    int fd, uint32_t epoll_events, std::shared_ptr<Watcher> watcher) {
  return poller_->Watch(fd, epoll_events, std::move(watcher));
}

absl::Status PollLoop::Rewatch(WatchId id, uint32_t epoll_events) {
  return poller_->Rewatch(id, epoll_events);
}

void PollLoop::Unwatch(WatchId id) { poller_->Unwatch(id); }

}  // namespace tensorferry
