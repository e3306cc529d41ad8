#include "base/loop.h"

#include <condition_variable>

namespace tensorferry {

namespace {

// So many tasks may run before the waiter looks for what came in.
constexpr int kTasksPerPoll = 16;

class ClockWaiter : public Loop::Waiter {
 public:
  explicit ClockWaiter(Clock* clock) : clock_(clock) {}
  void Wait(std::unique_lock<std::mutex>& lock, absl::Time until) override {
    clock_->WaitUntil(lock, wake_, until);
  }
  void Poll(std::unique_lock<std::mutex>&) override {}
  void Wake() override { wake_.notify_one(); }

 private:
  Clock* const clock_;
  std::condition_variable wake_;
};

}  // namespace

Loop::Loop(Clock* clock) : Loop(clock, std::make_unique<ClockWaiter>(clock)) {}

Loop::Loop(Clock* clock, std::unique_ptr<Waiter> waiter)
    : clock_(clock), waiter_(std::move(waiter)), thread_([this] { Work(); }) {}

Loop::~Loop() { Stop(); }

void Loop::Stop() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    waiter_->Wake();
  }
  if (thread_.joinable()) thread_.join();
}

void Loop::Post(Task task) {
  std::lock_guard<std::mutex> lock(mu_);
  tasks_.push_back(std::move(task));
  waiter_->Wake();
}

Loop::TimerId Loop::RunAt(absl::Time at, Task task) {
  std::lock_guard<std::mutex> lock(mu_);
  TimerId id = next_timer_++;
  auto timer = timers_.emplace(std::make_pair(at, id), std::move(task)).first;
  timer_times_.emplace(id, at);
  if (timer == timers_.begin()) waiter_->Wake();
  return id;
}

void Loop::CancelTimer(TimerId id) {
  Task dropped;  // destroyed after the lock: what it holds may call us
  std::lock_guard<std::mutex> lock(mu_);
  auto time = timer_times_.find(id);
  if (time == timer_times_.end()) return;
  auto timer = timers_.find({time->second, id});
  dropped = std::move(timer->second);
  timers_.erase(timer);
  timer_times_.erase(time);
}

void Loop::Work() {
  while (Task task = NextTask()) std::move(task)();
}

Task Loop::NextTask() {
  std::unique_lock<std::mutex> lock(mu_);
  if (++since_poll_ > kTasksPerPoll) {
    since_poll_ = 0;
    waiter_->Poll(lock);
  }
  while (true) {
    if (Task timer = TakeDueTimer()) return timer;
    if (!tasks_.empty()) {
      first_late_timer_ = next_timer_;
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      return task;
    }
    if (stopping_) return nullptr;
    since_poll_ = 0;
    waiter_->Wait(lock, timers_.empty() ? absl::InfiniteFuture()
                                        : timers_.begin()->first.first);
  }
}

// The earliest that is due and, while tasks wait, not late.
Task Loop::TakeDueTimer() {
  const absl::Time now = clock_->Now();
  for (auto timer = timers_.begin(); timer != timers_.end(); ++timer) {
    const auto [due, id] = timer->first;
    if (due > now) break;
    if (!tasks_.empty() && id >= first_late_timer_) continue;
    Task task = std::move(timer->second);
    timer_times_.erase(id);
    timers_.erase(timer);
    return task;
  }
  return nullptr;
}

}  // namespace tensorferry
