#ifndef TENSORFERRY_BASE_CLOCK_H_
#define TENSORFERRY_BASE_CLOCK_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
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

  // For those that wait in the kernel: how long to wait there for `deadline`,
  // if no waker runs before.
  virtual absl::Duration RealTimeUntil(absl::Time deadline) const = 0;
  // `wake` is called each time that the clock is advanced by hand, from there,
  // until RemoveWaker has returned. It must not call the clock.
  using WakerId = uint64_t;
  virtual WakerId AddWaker(std::function<void()> wake) = 0;
  virtual void RemoveWaker(WakerId id) = 0;

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
  absl::Duration RealTimeUntil(absl::Time deadline) const override;
  WakerId AddWaker(std::function<void()> wake) override;
  void RemoveWaker(WakerId id) override;
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

  absl::Mutex wakers_mu_;  // held while they run
  WakerId next_waker_ ABSL_GUARDED_BY(wakers_mu_) = 1;
  std::map<WakerId, std::function<void()>> wakers_ ABSL_GUARDED_BY(wakers_mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_CLOCK_H_
