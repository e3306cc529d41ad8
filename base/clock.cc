#include "base/clock.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"

namespace tensorferry {
namespace {

using Steady = std::chrono::steady_clock;

class RealClock : public Clock {
 public:
  absl::Time Now() const override {
    return wall_start_ + absl::FromChrono(Steady::now() - steady_start_);
  }
  // Not with absl's mutex, whose waits end by the wall clock.
  void WaitUntil(std::unique_lock<std::mutex>& lock,
                 std::condition_variable& wake, absl::Time deadline) override {
    const absl::Duration left = deadline - Now();
    if (left >= kForever) return wake.wait(lock);
    wake.wait_until(lock, Steady::now() + absl::ToChronoNanoseconds(left));
  }
  absl::Duration RealTimeUntil(absl::Time deadline) const override {
    return deadline - Now();
  }
  // Nobody advances it.
  WakerId AddWaker(std::function<void()>) override { return 0; }
  void RemoveWaker(WakerId) override {}

 private:
  // Far from where std::chrono overflows.
  static constexpr absl::Duration kForever = absl::Hours(24 * 365 * 10);

  const absl::Time wall_start_ = absl::Now();
  const Steady::time_point steady_start_ = Steady::now();
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

// A waiter is registered before it looks at the time and holds its mutex from
// there on, so that Advance either happened before (it sees the new time) or
// notifies after the wait has begun.
void FakeClock::WaitUntil(std::unique_lock<std::mutex>& lock,
                          std::condition_variable& wake, absl::Time deadline) {
  Waiter waiter{lock.mutex(), &wake};
  Register(&waiter);
  if (Now() < deadline) wake.wait(lock);
  // Advance may be about to lock the mutex: it must be through before we
  // forget it, and cannot be while we hold it.
  lock.unlock();
  Unregister(&waiter);
  lock.lock();
}

void FakeClock::Advance(absl::Duration by) {
  std::vector<Waiter*> waiters;
  {
    absl::MutexLock lock(&mu_);
    now_ += by;
    waiters = waiters_;
    for (Waiter* waiter : waiters) ++waiter->waking;
  }
  for (Waiter* waiter : waiters) {
    {
      std::lock_guard<std::mutex> lock(*waiter->mu);
      waiter->wake->notify_all();
    }
    absl::MutexLock lock(&mu_);
    --waiter->waking;
  }
  absl::MutexLock lock(&wakers_mu_);
  for (auto& [id, wake] : wakers_) wake();
}

absl::Duration FakeClock::RealTimeUntil(absl::Time deadline) const {
  return deadline <= Now() ? absl::ZeroDuration() : absl::InfiniteDuration();
}

Clock::WakerId FakeClock::AddWaker(std::function<void()> wake) {
  absl::MutexLock lock(&wakers_mu_);
  wakers_.emplace(next_waker_, std::move(wake));
  return next_waker_++;
}

void FakeClock::RemoveWaker(WakerId id) {
  absl::MutexLock lock(&wakers_mu_);
  wakers_.erase(id);
}

void FakeClock::Register(Waiter* waiter) {
  absl::MutexLock lock(&mu_);
  waiters_.push_back(waiter);
}

// Taken off the list first: time that runs without pause must not wake it for
// ever.
void FakeClock::Unregister(Waiter* waiter) {
  absl::MutexLock lock(&mu_);
  waiters_.erase(std::find(waiters_.begin(), waiters_.end(), waiter));
  mu_.Await(absl::Condition(
      +[](Waiter* waiter) { return waiter->waking == 0; }, waiter));
}

}  // namespace tensorferry
