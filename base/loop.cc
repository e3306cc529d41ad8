#include "base/loop.h"

namespace tensorferry {

Loop::Loop(Clock* clock) : clock_(clock), thread_([this] { Work(); }) {}

Loop::~Loop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

void Loop::Post(Task task) {
  absl::MutexLock lock(&mu_);
  tasks_.push_back(std::move(task));
}

Loop::TimerId Loop::RunAt(absl::Time at, Task task) {
  absl::MutexLock lock(&mu_);
  TimerId id = next_timer_++;
  timers_.emplace(std::make_pair(at, id), std::move(task));
  timer_times_.emplace(id, at);
  timers_changed_ = true;
  return id;
}

void Loop::CancelTimer(TimerId id) {
  Task dropped;  // destroyed after the lock: what it holds may call us
  absl::MutexLock lock(&mu_);
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
  auto woken = [this] {
    return stopping_ || timers_changed_ || !tasks_.empty();
  };
  absl::MutexLock lock(&mu_);
  while (true) {
    timers_changed_ = false;
    absl::Time next_timer = absl::InfiniteFuture();
    if (!timers_.empty()) {
      auto first = timers_.begin();
      next_timer = first->first.first;
      if (next_timer <= clock_->Now()) {
        Task task = std::move(first->second);
        timer_times_.erase(first->first.second);
        timers_.erase(first);
        return task;
      }
    }
    if (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      return task;
    }
    if (stopping_) return nullptr;
    clock_->AwaitUntil(&mu_, absl::Condition(&woken), next_timer);
  }
}

}  // namespace tensorferry
