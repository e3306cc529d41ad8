#include "base/clock.h"

#include <algorithm>

namespace tensorferry {
namespace {

class RealClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time deadline) override {
    return mu->AwaitWithDeadline(condition, deadline);
  }
};

}  // namespace

Clock* Clock::Real() {
  static Clock* const clock = new RealClock;
  return clock;
}

absl::Time FakeClock::Now() const {
  absl::MutexLock lock(&mu_);
  return now_;
}

// A waiter is registered before it waits and holds `mu` from there on, so that
// Advance either happened before (its condition sees the new time) or locks
// `mu` after the wait has begun, and unlocking evaluates the condition again.
bool FakeClock::AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                           absl::Time deadline) {
  while (!condition.Eval()) {
    if (Now() >= deadline) return false;
    Register(mu);
    auto woken = [&] { return condition.Eval() || Now() >= deadline; };
    mu->Await(absl::Condition(&woken));
    // Advance may be about to lock `mu`: it must be gone before we forget it,
    // and cannot go while we hold it.
    mu->Unlock();
    Unregister(mu);
    mu->Lock();
  }
  return true;
}

void FakeClock::Advance(absl::Duration by) {
  std::vector<absl::Mutex*> waiters;
  {
    absl::MutexLock lock(&mu_);
    now_ += by;
    ++advancing_;
    waiters = waiters_;
  }
  for (absl::Mutex* waiter : waiters) absl::MutexLock wake(waiter);
  absl::MutexLock lock(&mu_);
  --advancing_;
}

void FakeClock::Register(absl::Mutex* waiter) {
  absl::MutexLock lock(&mu_);
  waiters_.push_back(waiter);
}

void FakeClock::Unregister(absl::Mutex* waiter) {
  auto quiet = [this] { return advancing_ == 0; };
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&quiet));
  waiters_.erase(std::find(waiters_.begin(), waiters_.end(), waiter));
}

}  // namespace tensorferry
