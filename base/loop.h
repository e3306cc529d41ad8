#ifndef TENSORFERRY_BASE_LOOP_H_
#define TENSORFERRY_BASE_LOOP_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
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
class Loop : public Scheduler {
 public:
  // How a loop waits when it has nothing to run. Called with the loop's mutex
  // held, which `lock` may release meanwhile.
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // Returns once Wake was called or `until` has come, or earlier for no
    // reason. Runs on the loop, and may run what came in.
    virtual void Wait(std::unique_lock<std::mutex>& lock, absl::Time until) = 0;
    // The same without waiting. Called now and then while there are tasks.
    virtual void Poll(std::unique_lock<std::mutex>& lock) = 0;
    virtual void Wake() = 0;  // from any thread
  };

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

 protected:
  Loop(Clock* clock, std::unique_ptr<Waiter> waiter);
  // What the destructor does, for those that derive from it and must not be
  // half gone while tasks run. May be called twice.
  void Stop();
  Waiter* waiter() { return waiter_.get(); }

 private:
  void Work();
  Task NextTask();
  Task TakeDueTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock* const clock_;
  std::mutex mu_;  // a Clock waits with it
  const std::unique_ptr<Waiter> waiter_;
  int since_poll_ ABSL_GUARDED_BY(mu_) = 0;  // tasks run
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
