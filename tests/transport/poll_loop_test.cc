#include "transport/poll_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class Listening : public PollLoop::Watcher {
 public:
  explicit Listening(std::function<void(uint32_t)> heard)
      : heard_(std::move(heard)) {}
  void OnReady(uint32_t events) override { heard_(events); }

 private:
  const std::function<void(uint32_t)> heard_;
};

struct Sockets {
  Sockets() { socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends); }
  ~Sockets() {
    close(ends[0]);
    close(ends[1]);
  }
  int ends[2];
};

void OnLoop(Loop& loop, std::function<void()> run) {
  absl::Notification ran;
  loop.Post([&] {
    run();
    ran.Notify();
  });
  ran.WaitForNotification();
}

TEST(PollLoopTest, TellsOfADescriptorThatIsReady) {
  auto loop = *PollLoop::Create();
  Sockets sockets;
  absl::Notification ready;
  OnLoop(*loop, [&] {
    EXPECT_THAT(loop->Watch(sockets.ends[0], EPOLLIN,
                            std::make_shared<Listening>([&](uint32_t events) {
                              EXPECT_TRUE(events & EPOLLIN);
                              EXPECT_TRUE(loop->OnLoopThread());
                              ready.Notify();
                            })),
                IsOk());
  });
  EXPECT_EQ(write(sockets.ends[1], "x", 1), 1);
  ready.WaitForNotification();
}

TEST(PollLoopTest, SaysNothingAfterUnwatch) {
  auto loop = *PollLoop::Create();
  Sockets one, two;
  int heard = 0;
  PollLoop::WatchId ids[2];
  // Both are ready; whichever hears first unwatches the other.
  OnLoop(*loop, [&] {
    EXPECT_EQ(write(one.ends[1], "x", 1), 1);
    EXPECT_EQ(write(two.ends[1], "x", 1), 1);
    const auto hear = [&](uint32_t) {
      ++heard;
      loop->Unwatch(ids[0]);
      loop->Unwatch(ids[1]);
    };
    ids[0] =
        *loop->Watch(one.ends[0], EPOLLIN, std::make_shared<Listening>(hear));
    ids[1] =
        *loop->Watch(two.ends[0], EPOLLIN, std::make_shared<Listening>(hear));
  });
  while (true) {
    int so_far = 0;
    OnLoop(*loop, [&] { so_far = heard; });
    if (so_far > 0) break;
  }
  OnLoop(*loop, [&] { EXPECT_EQ(heard, 1); });
}

TEST(PollLoopTest, RewatchTellsOfWhatIsThereAlready) {
  auto loop = *PollLoop::Create();
  Sockets sockets;
  absl::Notification writable;
  PollLoop::WatchId id = 0;
  OnLoop(*loop, [&] {
    id = *loop->Watch(sockets.ends[0], EPOLLIN,
                      std::make_shared<Listening>([&](uint32_t events) {
                        EXPECT_EQ(events, uint32_t{EPOLLOUT});
                        writable.Notify();
                      }));
    EXPECT_THAT(loop->Rewatch(id, EPOLLIN | EPOLLOUT), IsOk());
  });
  writable.WaitForNotification();
  OnLoop(*loop, [&] {
    loop->Unwatch(id);
    EXPECT_THAT(loop->Rewatch(id, EPOLLIN),
                StatusIs(absl::StatusCode::kInternal));
  });
}

TEST(PollLoopTest, KeepsAWatcherUntilUnwatch) {
  auto loop = *PollLoop::Create();
  Sockets sockets;
  std::weak_ptr<Listening> watch;
  PollLoop::WatchId id = 0;
  OnLoop(*loop, [&] {
    auto watcher = std::make_shared<Listening>([](uint32_t) {});
    watch = watcher;
    id = *loop->Watch(sockets.ends[0], EPOLLIN, std::move(watcher));
  });
  EXPECT_FALSE(watch.expired());
  OnLoop(*loop, [&] { loop->Unwatch(id); });
  EXPECT_TRUE(watch.expired());
}

TEST(PollLoopTest, SaysWhyADescriptorCannotBeWatchedAndDropsItsWatcher) {
  auto loop = *PollLoop::Create();
  auto watcher = std::make_shared<Listening>([](uint32_t) { ADD_FAILURE(); });
  OnLoop(*loop, [&] {
    EXPECT_THAT(loop->Watch(-1, EPOLLIN, watcher),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("Bad file descriptor")));
  });
  EXPECT_EQ(watcher.use_count(), 1);
}

// With `left` descriptors left to this process.
absl::Status CreateWith(int left) {
  const int next = dup(0);
  close(next);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next + left);
  setrlimit(RLIMIT_NOFILE, &few);
  absl::Status status = PollLoop::Create().status();
  setrlimit(RLIMIT_NOFILE, &before);
  return status;
}

TEST(PollLoopTest, IsNotMadeWithoutDescriptors) {
  EXPECT_THAT(CreateWith(0), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("epoll_create1")));
  EXPECT_THAT(CreateWith(1), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("eventfd")));
  EXPECT_THAT(CreateWith(2), IsOk());
}

TEST(PollLoopTest, TasksDoNotKeepDescriptorsWaiting) {
  auto loop = *PollLoop::Create();
  Sockets sockets;
  bool ready = false;
  absl::Notification over;
  std::function<void()> again = [&] {
    if (ready) {
      over.Notify();
    } else {
      loop->Post([&] { again(); });
    }
  };
  OnLoop(*loop, [&] {
    EXPECT_THAT(loop->Watch(sockets.ends[0], EPOLLIN,
                            std::make_shared<Listening>(
                                [&](uint32_t) { ready = true; })),
                IsOk());
    again();
  });
  EXPECT_EQ(write(sockets.ends[1], "x", 1), 1);
  over.WaitForNotification();
}

TEST(PollLoopTest, DoesNotPollWhileWhoNeverSleepsHasItsProcessor) {
  std::atomic<int> waits = 0, yields = 0;
  absl::Time now = absl::UnixEpoch();  // the loop's
  absl::Duration turn;                 // that others have when it yields
  Polling polling{.longest = PollLoop::kUsualSpin};
  polling.now = [&] {
    ++waits;
    return now += absl::Microseconds(10);
  };
  polling.yield = [&] {
    ++yields;
    now += turn;
  };
  auto loop = *PollLoop::Create(Clock::Real(), polling);
  const auto wait_until = [&](auto over) {
    while (!over()) OnLoop(*loop, [] {});
  };

  wait_until([&] { return yields > 10; });
  OnLoop(*loop, [&] { turn = absl::Milliseconds(3); });
  yields = waits = 0;
  wait_until([&] { return waits > 100; });
  EXPECT_LE(yields, 1);
  OnLoop(*loop, [&] {
    turn = absl::ZeroDuration();
    now += absl::Milliseconds(100);
  });
  wait_until([&] { return yields > 10; });
}

class PollLoopClockTest : public ::testing::TestWithParam<absl::Duration> {};
INSTANTIATE_TEST_SUITE_P(Spins, PollLoopClockTest,
                         ::testing::Values(absl::ZeroDuration(),
                                           PollLoop::kUsualSpin));

TEST_P(PollLoopClockTest, FiresTimersWhenAFakeClockGetsThere) {
  FakeClock clock;
  auto loop = *PollLoop::Create(&clock, {.longest = GetParam()});
  std::vector<std::string> fired;
  absl::Notification second, third;
  const absl::Time start = clock.Now();
  loop->RunAt(start + absl::Seconds(2), [&] {
    fired.push_back("two");
    second.Notify();
  });
  loop->RunAt(start + absl::Seconds(1), [&] { fired.push_back("one"); });
  loop->RunAt(start + absl::Seconds(3), [&] { third.Notify(); });
  OnLoop(*loop, [&] { EXPECT_THAT(fired, ElementsAre()); });
  clock.Advance(absl::Seconds(2));
  second.WaitForNotification();
  OnLoop(*loop, [&] { EXPECT_THAT(fired, ElementsAre("one", "two")); });
  EXPECT_FALSE(third.HasBeenNotified());
  clock.Advance(absl::Seconds(1));
  third.WaitForNotification();
}

TEST_P(PollLoopClockTest, WakesFromSleepForATimerThatComesFirst) {
  FakeClock clock;
  auto loop = *PollLoop::Create(&clock, {.longest = GetParam()});
  loop->RunAt(absl::InfiniteFuture(), [] {});
  for (int i = 0; i < 200; ++i) {
    absl::Notification fired;
    loop->RunAt(clock.Now() + absl::Seconds(1), [&] { fired.Notify(); });
    clock.Advance(absl::Seconds(1));
    fired.WaitForNotification();
  }
}

TEST_P(PollLoopClockTest, FiresOnTheRealClock) {
  auto loop = *PollLoop::Create(Clock::Real(), {.longest = GetParam()});
  absl::Notification fired;
  loop->RunAt(Clock::Real()->Now() + absl::Milliseconds(1),
              [&] { fired.Notify(); });
  fired.WaitForNotification();
}

// After pauses of 0 to some 100 us. What it misses is waited for in vain.
TEST_P(PollLoopClockTest, HearsOfEverythingHoweverLongItPolls) {
  auto loop = *PollLoop::Create(Clock::Real(), {.longest = GetParam()});
  Sockets sockets;
  std::atomic<int> heard = 0;
  OnLoop(*loop, [&] {
    EXPECT_THAT(loop->Watch(sockets.ends[0], EPOLLIN,
                            std::make_shared<Listening>([&](uint32_t) {
                              char byte;
                              while (read(sockets.ends[0], &byte, 1) == 1) {
                                ++heard;
                              }
                            })),
                IsOk());
  });
  for (int i = 0; i < 3000; ++i) {
    const auto until = std::chrono::steady_clock::now() +
                       std::chrono::microseconds(i % 300 / 3);
    while (std::chrono::steady_clock::now() < until) {
    }
    if (i % 2 == 0) {
      OnLoop(*loop, [] {});
    } else {
      EXPECT_EQ(write(sockets.ends[1], "x", 1), 1);
      while (heard < (i + 1) / 2) std::this_thread::yield();
    }
  }
  OnLoop(*loop, [] {});  // it reads no more
}

TEST_P(PollLoopClockTest, RunsWhatWasPostedBeforeItIsGone) {
  int ran = 0;
  {
    auto loop = *PollLoop::Create(Clock::Real(), {.longest = GetParam()});
    for (int i = 0; i < 100; ++i) loop->Post([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

}  // namespace
}  // namespace tensorferry
