#include "tests/simulation/event_queue.h"

#include <algorithm>

namespace tensorferry {
namespace simulation {

EventQueue::Id EventQueue::At(absl::Time at, ProcessState* process, Task task) {
  const Id id = next_++;
  at = std::max(at, now_);
  events_.emplace(std::make_pair(at, id), Event{process, std::move(task)});
  times_.emplace(id, at);
  return id;
}

void EventQueue::Cancel(Id id) {
  auto time = times_.find(id);
  if (time == times_.end()) return;
  auto event = events_.find({time->second, id});
  Task dropped = std::move(event->second.task);  // destroyed last
  events_.erase(event);
  times_.erase(time);
}

bool EventQueue::RunNext(absl::Time until) {
  if (events_.empty() || events_.begin()->first.first > until) {
    if (until != absl::InfiniteFuture()) now_ = std::max(now_, until);
    return false;
  }
  auto first = events_.begin();
  now_ = first->first.first;
  times_.erase(first->first.second);
  Event event = std::move(first->second);
  events_.erase(first);
  if (event.process != nullptr && event.process->stopped) {
    event.process->held.push_back(std::move(event.task));
  } else {
    std::move(event.task)();
  }
  return true;
}

void EventQueue::Resume(ProcessState* process) {
  process->stopped = false;
  for (Task& task : std::exchange(process->held, {})) {
    At(now_, process, std::move(task));
  }
}

void EventQueue::Clear() {
  times_.clear();
  while (!events_.empty()) events_.erase(events_.begin());
}

void SimulatedLoop::Post(Task task) {
  queue_->At(queue_->Now(), process_, std::move(task));
}

// A timer of a stopped process is held as what it is: a task that may still be
// cancelled.
Scheduler::TimerId SimulatedLoop::RunAt(absl::Time at, Task task) {
  const TimerId id = next_++;
  ++timers_;
  ids_[id] =
      queue_->At(at, process_, [this, id, task = std::move(task)]() mutable {
        if (ids_.erase(id) == 0) return;  // cancelled while the process stood
        --timers_;
        std::move(task)();
      });
  return id;
}

void SimulatedLoop::CancelTimer(TimerId id) {
  auto found = ids_.find(id);
  if (found == ids_.end()) return;
  const EventQueue::Id event = found->second;
  ids_.erase(found);
  --timers_;
  queue_->Cancel(event);
}

}  // namespace simulation
}  // namespace tensorferry
