#ifndef TENSORFERRY_BASE_CLOCK_H_
#define TENSORFERRY_BASE_CLOCK_H_

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
  // absl::Mutex::AwaitWithDeadline against this clock. `mu` must be held.
  // Returns whether `condition` is true.
  virtual bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                          absl::Time deadline) = 0;

  static Clock* Real();  // lives for ever
};

// Stands still until advanced. Outlives all that waits on it. Advance must not
// be called under a mutex that somebody waits with.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::UnixEpoch()) : now_(now) {}
  absl::Time Now() const override;
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time deadline) override;
  void Advance(absl::Duration by);

 private:
  void Register(absl::Mutex* waiter);
  void Unregister(absl::Mutex* waiter);

  mutable absl::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Mutex*> waiters_ ABSL_GUARDED_BY(mu_);
  int advancing_ ABSL_GUARDED_BY(mu_) = 0;  // calls of Advance under way
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_CLOCK_H_
