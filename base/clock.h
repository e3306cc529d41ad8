#ifndef TENSORFERRY_BASE_CLOCK_H_
#define TENSORFERRY_BASE_CLOCK_H_

#include <condition_variable>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tensorferry {

// Time as a dependency, so that leases and deadlines are tested without
// waiting for them. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  // Returns once `wake` is notified or Now() has reached `deadline`, or earlier
  // for no reason: look at your condition again. `lock` is held on entry and on
  // return, and guards the condition.
  virtual void WaitUntil(std::unique_lock<std::mutex>& lock,
                         std::condition_variable& wake,
                         absl::Time deadline) = 0;

  // Steady: starts at the wall clock's time, and neither it nor its waits move
  // when that one is set. Stands still while the machine is suspended. Lives
  // for ever.
  static Clock* Real();
};

// Stands still until advanced. Outlives all that waits on it. Advance must not
// be called under a mutex that somebody waits with.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::UnixEpoch()) : now_(now) {}
  absl::Time Now() const override;
  void WaitUntil(std::unique_lock<std::mutex>& lock,
                 std::condition_variable& wake, absl::Time deadline) override;
  void Advance(absl::Duration by);

 private:
  struct Waiter {
    std::mutex* const mu;
    std::condition_variable* const wake;
    int waking = 0;  // calls of Advance that are about to wake it
  };
  void Register(Waiter* waiter);
  void Unregister(Waiter* waiter);

  mutable absl::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_);
  std::vector<Waiter*> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_CLOCK_H_
