#include "transport/poll_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"

namespace tensorferry {
namespace {

constexpr int kEventsPerWait = 64;
constexpr uint64_t kWakeEvent = 0;  // no WatchId

}  // namespace

class PollLoop::Poller : public Loop::Waiter {
 public:
  Poller(Clock* clock, absl::Duration spin)
      : clock_(clock),
        spin_(spin),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    Control(EPOLL_CTL_ADD, wake_, EPOLLIN, kWakeEvent);
    waker_ = clock_->AddWaker([this] { Signal(); });
  }

  ~Poller() override {
    clock_->RemoveWaker(waker_);
    close(wake_);
    close(epoll_);
  }

  void Wait(std::unique_lock<std::mutex>& lock, absl::Time until) override {
    if (Spinning()) return Turn(lock, 0);
    sleeping_ = true;
    Turn(lock, MillisecondsUntil(until));
  }

  void Poll(std::unique_lock<std::mutex>& lock) override { Turn(lock, 0); }

  void Wake() override {
    active_ = true;
    // One write is enough, and none while nobody sleeps.
    if (std::exchange(sleeping_, false)) Signal();
  }

  WatchId Watch(int fd, uint32_t events, std::shared_ptr<Watcher> watcher) {
    const WatchId id = next_id_++;
    if (!Control(EPOLL_CTL_ADD, fd, events | EPOLLET, id))
      broken_.push_back(id);
    watches_.emplace(id, WatchedFd{fd, std::move(watcher)});
    return id;
  }

  void Unwatch(WatchId id) {
    auto watch = watches_.find(id);
    if (watch == watches_.end()) return;
    Control(EPOLL_CTL_DEL, watch->second.fd, 0, id);
    // It may be the last owner of what calls us.
    std::shared_ptr<Watcher> dropped = std::move(watch->second.watcher);
    watches_.erase(watch);
  }

 private:
  struct WatchedFd {
    int fd;
    std::shared_ptr<Watcher> watcher;
  };

  bool Control(int operation, int fd, uint32_t events, uint64_t id) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = id;
    return epoll_ctl(epoll_, operation, fd, &event) == 0;
  }

  void Signal() {
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t written = write(wake_, &one, sizeof(one));
  }

  // Whether there was work a moment ago, so that more may be near.
  bool Spinning() {
    if (spin_ <= absl::ZeroDuration()) return false;
    const absl::Time now = Clock::Real()->Now();
    if (std::exchange(active_, false)) active_at_ = now;
    return now - active_at_ < spin_;
  }

  int MillisecondsUntil(absl::Time until) const {
    if (!broken_.empty()) return 0;
    const absl::Duration left = clock_->RealTimeUntil(until);
    if (left <= absl::ZeroDuration()) return 0;
    if (left >= absl::Hours(24))
      return left == absl::InfiniteDuration() ? -1 : 24 * 3600 * 1000;
    return static_cast<int>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
  }

  // `sleeping_` stays set if the wait ends by itself: then a Wake writes in
  // vain, once.
  void Turn(std::unique_lock<std::mutex>& lock, int timeout_ms) {
    lock.unlock();
    epoll_event events[kEventsPerWait];
    const int count = epoll_wait(epoll_, events, kEventsPerWait, timeout_ms);
    for (int i = 0; i < count; ++i) Tell(events[i].data.u64, events[i].events);
    for (WatchId id : std::exchange(broken_, {})) Tell(id, EPOLLERR);
    lock.lock();
    sleeping_ = false;
    if (count > 0) active_ = true;
  }

  // Looked up one by one: a watcher may unwatch those after it.
  void Tell(uint64_t id, uint32_t events) {
    if (id == kWakeEvent) {
      uint64_t signals;
      [[maybe_unused]] ssize_t taken = read(wake_, &signals, sizeof(signals));
      return;
    }
    auto watch = watches_.find(id);
    if (watch == watches_.end()) return;
    std::shared_ptr<Watcher> watcher = watch->second.watcher;
    watcher->OnReady(events);
  }

  Clock* const clock_;
  const absl::Duration spin_;
  const int epoll_;
  const int wake_;
  Clock::WakerId waker_ = 0;

  // Under the loop's mutex.
  bool sleeping_ = false;
  bool active_ = false;

  // On the loop.
  absl::Time active_at_ = absl::InfinitePast();
  WatchId next_id_ = kWakeEvent + 1;
  std::vector<WatchId> broken_;
  absl::flat_hash_map<WatchId, WatchedFd> watches_;
};

PollLoop::PollLoop(Clock* clock, absl::Duration spin)
    : PollLoop(clock, std::make_unique<Poller>(clock, spin)) {}

PollLoop::PollLoop(Clock* clock, std::unique_ptr<Poller> poller)
    : Loop(clock, std::move(poller)), poller_(static_cast<Poller*>(waiter())) {}

PollLoop::~PollLoop() { Stop(); }

PollLoop::WatchId PollLoop::Watch(int fd, uint32_t epoll_events,
                                  std::shared_ptr<Watcher> watcher) {
  return poller_->Watch(fd, epoll_events, std::move(watcher));
}

void PollLoop::Unwatch(WatchId id) { poller_->Unwatch(id); }

}  // namespace tensorferry
