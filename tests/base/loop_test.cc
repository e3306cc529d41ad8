#include "base/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/notification.h"

namespace tensorferry {
namespace {

using ::testing::ElementsAre;

// Runs all that was posted so far, and the timers that are due.
void Drain(Loop& loop) {
  absl::Notification drained;
  loop.Post([&] { drained.Notify(); });
  drained.WaitForNotification();
}

TEST(LoopTest, RunsTasksInOrderOnItsThread) {
  Loop loop;
  std::vector<int> order;
  EXPECT_FALSE(loop.OnLoopThread());
  for (int i = 0; i < 4; ++i) {
    loop.Post([&, i] {
      EXPECT_TRUE(loop.OnLoopThread());
      order.push_back(i);
    });
  }
  Drain(loop);
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3));
}

TEST(LoopTest, RunsWhatWasPostedBeforeItIsGone) {
  int ran = 0;
  {
    Loop loop;
    for (int i = 0; i < 100; ++i) loop.Post([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(LoopTest, FiresTimersWhenTheyAreDueInOrderOfTime) {
  FakeClock clock;
  Loop loop(&clock);
  std::vector<std::string> fired;
  absl::Time start = clock.Now();
  loop.RunAt(start + absl::Seconds(2), [&] { fired.push_back("two"); });
  loop.RunAt(start + absl::Seconds(1), [&] { fired.push_back("one"); });
  loop.RunAt(start + absl::Seconds(3), [&] { fired.push_back("three"); });
  Drain(loop);
  EXPECT_THAT(fired, ElementsAre());
  clock.Advance(absl::Seconds(2));
  Drain(loop);
  EXPECT_THAT(fired, ElementsAre("one", "two"));
}

TEST(LoopTest, WakesForATimerThatComesBeforeAllOthers) {
  FakeClock clock;
  Loop loop(&clock);
  absl::Notification fired;
  loop.RunAt(clock.Now() + absl::Hours(1), [] {});
  Drain(loop);
  loop.RunAt(clock.Now() + absl::Seconds(1), [&] { fired.Notify(); });
  clock.Advance(absl::Seconds(1));
  fired.WaitForNotification();
}

TEST(LoopTest, DoesNotFireCancelledTimers) {
  FakeClock clock;
  Loop loop(&clock);
  bool fired = false;
  Loop::TimerId id = loop.RunAt(clock.Now(), [] {});
  Drain(loop);
  loop.CancelTimer(id);  // has fired: no effect
  id = loop.RunAt(clock.Now() + absl::Seconds(1), [&] { fired = true; });
  loop.CancelTimer(id);
  loop.CancelTimer(id);
  clock.Advance(absl::Seconds(2));
  Drain(loop);
  EXPECT_FALSE(fired);
}

TEST(LoopTest, NeverFiresATimerOfTheInfiniteFuture) {
  FakeClock clock;
  bool fired = false;
  {
    Loop loop(&clock);
    loop.RunAt(absl::InfiniteFuture(), [&] { fired = true; });
    clock.Advance(absl::Hours(24) * 365 * 1000);
    Drain(loop);
  }
  EXPECT_FALSE(fired);
}

TEST(LoopTest, DropsTimersThatAreNotDueWhenItEnds) {
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  bool fired = false;
  {
    FakeClock clock;
    Loop loop(&clock);
    loop.RunAt(clock.Now() + absl::Seconds(1),
               [&fired, held = std::move(held)] { fired = true; });
  }
  EXPECT_FALSE(fired);
  EXPECT_TRUE(watch.expired());
}

// What a cancelled task holds may call the loop when it dies.
TEST(LoopTest, DestroysCancelledTasksOutsideItsLock) {
  FakeClock clock;
  Loop loop(&clock);
  bool posted = false;
  absl::Cleanup post = [&] { loop.Post([&] { posted = true; }); };
  Loop::TimerId id =
      loop.RunAt(clock.Now() + absl::Seconds(1), [post = std::move(post)] {});
  loop.CancelTimer(id);
  Drain(loop);
  EXPECT_TRUE(posted);
}

TEST(LoopTest, TasksMayPostAndSetTimers) {
  FakeClock clock;
  Loop loop(&clock);
  absl::Notification fired;
  loop.Post([&] {
    loop.Post([&] { loop.RunAt(clock.Now(), [&] { fired.Notify(); }); });
  });
  fired.WaitForNotification();
}

TEST(LoopTest, TimersThatSetTimersInThePastDoNotStarveTasks) {
  FakeClock clock;
  Loop loop(&clock);
  bool over = false;
  std::function<void()> again = [&] {
    if (!over) loop.RunAt(clock.Now() - absl::Seconds(1), [&] { again(); });
  };
  loop.Post([&] { again(); });
  for (int i = 0; i < 10; ++i) Drain(loop);
  loop.Post([&] { over = true; });
  Drain(loop);
}

TEST(LoopTest, FiresOnTheRealClock) {
  Loop loop;
  absl::Notification fired;
  loop.RunAt(loop.clock()->Now() + absl::Milliseconds(1),
             [&] { fired.Notify(); });
  fired.WaitForNotification();
}

}  // namespace
}  // namespace tensorferry
