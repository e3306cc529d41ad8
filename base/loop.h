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
#include "base/scheduler.h"

namespace tensorferry {

// A scheduler with one thread of its own. Timers go ahead of tasks, but never
// starve them. All methods: any thread.
class Loop final : public Scheduler {
 public:
  explicit Loop(Clock* clock = Clock::Real());
  // Runs what was posted, drops timers that are not yet due, joins. Must not
  // run on the loop's own thread.
  ~Loop() override;

  void Post(Task task) override;
  TimerId RunAt(absl::Time at, Task task) override;
  void CancelTimer(TimerId id) override;
  Clock* clock() const override { return clock_; }

  bool OnLoopThread() const {
    return std::this_thread::get_id() == thread_.get_id();
  }

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
