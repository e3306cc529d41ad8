#ifndef TENSORFERRY_BASE_LOOP_H_
#define TENSORFERRY_BASE_LOOP_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"

namespace tensorferry {

// One thread that runs tasks in the order of Post and timers when they are
// due. Timers go ahead of tasks, but never starve them. Objects that belong to
// a loop are touched only from its thread and so need no lock. Tasks must not
// block and must not throw.
class Loop : public Executor {
 public:
  using TimerId = uint64_t;  // 0 is no timer

  explicit Loop(Clock* clock = Clock::Real());
  // Runs what was posted, drops timers that are not yet due, joins. Must not
  // run on the loop's own thread.
  ~Loop() override;

  // Any thread.
  void Post(Task task);
  void Run(Task task) override { Post(std::move(task)); }
  // Any thread. Runs `task` on the loop once Now() has reached `at`.
  // absl::InfiniteFuture() makes a timer that never fires.
  TimerId RunAt(absl::Time at, Task task);
  // Any thread. Drops the timer. No effect once its task has started or was
  // cancelled.
  void CancelTimer(TimerId id);

  bool OnLoopThread() const {
    return std::this_thread::get_id() == thread_.get_id();
  }
  Clock* clock() const { return clock_; }

 private:
  void Work();
  Task NextTask();
  Task TakeDueTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock* const clock_;
  std::mutex mu_;  // a Clock waits with it
  std::condition_variable wake_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<absl::Time, TimerId>, Task> timers_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<TimerId, absl::Time> timer_times_ ABSL_GUARDED_BY(mu_);
  TimerId next_timer_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // Those set since the last task wait for the next one, so that timers that
  // set timers do not starve tasks.
  TimerId first_late_timer_ ABSL_GUARDED_BY(mu_) = 1;
  std::thread thread_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_LOOP_H_
