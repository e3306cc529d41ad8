#include "base/clock.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/synchronization/notification.h"

namespace tensorferry {
namespace {

TEST(FakeClockTest, StandsStillUntilAdvanced) {
  FakeClock clock(absl::UnixEpoch());
  EXPECT_EQ(clock.Now(), absl::UnixEpoch());
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Now(), absl::UnixEpoch() + absl::Seconds(3));
}

TEST(FakeClockTest, ReturnsAtOnceWhenTheConditionHolds) {
  FakeClock clock;
  absl::Mutex mu;
  bool done = true;
  absl::MutexLock lock(&mu);
  EXPECT_TRUE(clock.AwaitUntil(&mu, absl::Condition(&done), clock.Now()));
}

TEST(FakeClockTest, EndsAWaitWhenItsDeadlineIsReached) {
  FakeClock clock;
  absl::Mutex mu;
  bool never = false;
  absl::Notification ended;
  std::thread waiter([&] {
    absl::MutexLock lock(&mu);
    EXPECT_FALSE(clock.AwaitUntil(&mu, absl::Condition(&never),
                                  absl::UnixEpoch() + absl::Seconds(10)));
    ended.Notify();
  });
  clock.Advance(absl::Seconds(9));
  EXPECT_FALSE(ended.HasBeenNotified());
  clock.Advance(absl::Seconds(1));
  waiter.join();
}

TEST(FakeClockTest, EndsAWaitWhenItsConditionComesTrue) {
  FakeClock clock;
  absl::Mutex mu;
  bool done = false;
  std::thread waiter([&] {
    absl::MutexLock lock(&mu);
    EXPECT_TRUE(
        clock.AwaitUntil(&mu, absl::Condition(&done), absl::InfiniteFuture()));
  });
  {
    absl::MutexLock lock(&mu);
    done = true;
  }
  waiter.join();
}

// A mutex that was waited with may die right after; Advance must not touch it.
TEST(FakeClockTest, ForgetsMutexesThatDie) {
  FakeClock clock;
  std::thread waiters([&] {
    for (int i = 1; i <= 200; ++i) {
      auto mu = std::make_unique<absl::Mutex>();
      bool never = false;
      absl::MutexLock lock(mu.get());
      clock.AwaitUntil(mu.get(), absl::Condition(&never),
                       absl::UnixEpoch() + absl::Seconds(i));
    }
  });
  for (int i = 0; i < 200; ++i) clock.Advance(absl::Seconds(1));
  waiters.join();
}

TEST(RealClockTest, GoesOn) {
  absl::Time before = Clock::Real()->Now();
  absl::Mutex mu;
  bool never = false;
  absl::MutexLock lock(&mu);
  EXPECT_FALSE(Clock::Real()->AwaitUntil(&mu, absl::Condition(&never), before));
  EXPECT_GE(Clock::Real()->Now(), before);
}

}  // namespace
}  // namespace tensorferry
