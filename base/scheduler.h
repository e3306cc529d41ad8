#ifndef TENSORFERRY_BASE_SCHEDULER_H_
#define TENSORFERRY_BASE_SCHEDULER_H_

#include <cstdint>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"

namespace tensorferry {

// Runs tasks one at a time, in the order of Post, and timers when they are due.
// What belongs to a scheduler is touched only by its tasks and so needs no
// lock. Tasks must not block and must not throw. Loop is a thread that does so;
// a simulation brings its own.
class Scheduler : public Executor {
 public:
  using TimerId = uint64_t;  // 0 is no timer

  virtual void Post(Task task) = 0;
  void Run(Task task) final { Post(std::move(task)); }
  // Runs `task` once Now() has reached `at`. absl::InfiniteFuture() makes a
  // timer that never fires.
  virtual TimerId RunAt(absl::Time at, Task task) = 0;
  // Drops the timer. No effect once its task has started or was cancelled.
  virtual void CancelTimer(TimerId id) = 0;
  virtual Clock* clock() const = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_SCHEDULER_H_
