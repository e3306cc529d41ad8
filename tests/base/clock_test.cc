#include "base/clock.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace tensorferry {
namespace {

TEST(FakeClockTest, StandsStillUntilAdvanced) {
  FakeClock clock(absl::UnixEpoch());
  EXPECT_EQ(clock.Now(), absl::UnixEpoch());
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Now(), absl::UnixEpoch() + absl::Seconds(3));
}

// Waits until `deadline`, or for `done` to be true. Returns whether it is.
bool Await(Clock& clock, const bool& done, std::mutex& mu,
           std::condition_variable& wake, absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mu);
  while (!done && clock.Now() < deadline) clock.WaitUntil(lock, wake, deadline);
  return done;
}

TEST(FakeClockTest, ReturnsAtOnceWhenTheDeadlineHasPassed) {
  FakeClock clock;
  std::mutex mu;
  std::condition_variable wake;
  std::unique_lock<std::mutex> lock(mu);
  clock.WaitUntil(lock, wake, clock.Now());
  EXPECT_TRUE(lock.owns_lock());
}

TEST(FakeClockTest, EndsAWaitWhenItsDeadlineIsReached) {
  FakeClock clock;
  std::mutex mu;
  std::condition_variable wake;
  bool never = false;
  absl::Notification ended;
  std::thread waiter([&] {
    EXPECT_FALSE(
        Await(clock, never, mu, wake, absl::UnixEpoch() + absl::Seconds(10)));
    ended.Notify();
  });
  clock.Advance(absl::Seconds(9));
  EXPECT_FALSE(ended.HasBeenNotified());
  clock.Advance(absl::Seconds(1));
  waiter.join();
}

TEST(FakeClockTest, EndsAWaitThatIsNotified) {
  FakeClock clock;
  std::mutex mu;
  std::condition_variable wake;
  bool done = false;
  std::thread waiter([&] {
    EXPECT_TRUE(Await(clock, done, mu, wake, absl::InfiniteFuture()));
  });
  {
    std::lock_guard<std::mutex> lock(mu);
    done = true;
    wake.notify_one();
  }
  waiter.join();
}

TEST(FakeClockTest, TimeThatRunsWithoutPauseDoesNotHoldUpWaiters) {
  FakeClock clock;
  absl::Notification over;
  std::thread time([&] {
    while (!over.HasBeenNotified()) clock.Advance(absl::Seconds(1));
  });
  std::mutex mu;
  std::condition_variable wake;
  bool never = false;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(Await(clock, never, mu, wake, clock.Now() + absl::Seconds(5)));
  }
  over.Notify();
  time.join();
}

// What was waited with may die right after; Advance must not touch it.
TEST(FakeClockTest, ForgetsMutexesThatDie) {
  FakeClock clock;
  std::thread waiters([&] {
    for (int i = 1; i <= 200; ++i) {
      auto mu = std::make_unique<std::mutex>();
      auto wake = std::make_unique<std::condition_variable>();
      bool never = false;
      Await(clock, never, *mu, *wake, absl::UnixEpoch() + absl::Seconds(i));
    }
  });
  for (int i = 0; i < 200; ++i) clock.Advance(absl::Seconds(1));
  waiters.join();
}

TEST(FakeClockTest, CallsWakersAtEachAdvanceUntilTheyAreRemoved) {
  FakeClock clock;
  int woken = 0;
  const Clock::WakerId id = clock.AddWaker([&] { ++woken; });
  clock.Advance(absl::Seconds(1));
  clock.Advance(absl::Seconds(1));
  clock.RemoveWaker(id);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(woken, 2);
}

TEST(FakeClockTest, KnowsNoRealTimeToADeadlineAhead) {
  FakeClock clock;
  EXPECT_EQ(clock.RealTimeUntil(clock.Now() + absl::Seconds(1)),
            absl::InfiniteDuration());
  EXPECT_EQ(clock.RealTimeUntil(clock.Now()), absl::ZeroDuration());
}

TEST(RealClockTest, GoesOnAndStartsAtTheWallClocksTime) {
  const absl::Time before = Clock::Real()->Now();
  EXPECT_LT(absl::AbsDuration(before - absl::Now()), absl::Hours(1));
  std::mutex mu;
  std::condition_variable wake;
  bool never = false;
  EXPECT_FALSE(
      Await(*Clock::Real(), never, mu, wake, before + absl::Milliseconds(1)));
  EXPECT_GE(Clock::Real()->Now(), before + absl::Milliseconds(1));
}

TEST(RealClockTest, WaitsWithoutADeadlineUntilItIsNotified) {
  std::mutex mu;
  std::condition_variable wake;
  bool done = false;
  std::thread waiter([&] {
    EXPECT_TRUE(Await(*Clock::Real(), done, mu, wake, absl::InfiniteFuture()));
  });
  {
    std::lock_guard<std::mutex> lock(mu);
    done = true;
    wake.notify_one();
  }
  waiter.join();
}

}  // namespace
}  // namespace tensorferry
