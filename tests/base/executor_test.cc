#include "base/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"

namespace tensorferry {
namespace {

TEST(InlineExecutorTest, RunsOnTheCallingThread) {
  std::thread::id ran_on;
  Executor::Inline()->Run([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(ThreadPoolTest, RunsEveryTaskOnceBeforeItIsGone) {
  std::atomic<int> ran{0};
  {
    ThreadPool pool(3);
    for (int i = 0; i < 1000; ++i) pool.Run([&] { ++ran; });
  }
  EXPECT_EQ(ran, 1000);
}

TEST(ThreadPoolTest, StartsTasksInOrder) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 5; ++i) pool.Run([&order, i] { order.push_back(i); });
  }
  EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(ThreadPoolTest, RunsTasksSideBySide) {
  absl::Notification first, second;
  ThreadPool pool(2);
  pool.Run([&] {
    second.WaitForNotification();
    first.Notify();
  });
  pool.Run([&] { second.Notify(); });
  first.WaitForNotification();
}

// Of each thread, once all have begun.
std::vector<cpu_set_t> ProcessorsOf(int threads) {
  std::vector<cpu_set_t> all(threads);
  std::atomic<int> begun = 0;
  ThreadPool pool(threads, ThreadPool::Processors::kApart);
  for (cpu_set_t& processors : all) {
    pool.Run([&] {
      sched_getaffinity(0, sizeof(processors), &processors);
      ++begun;
      while (begun < threads) std::this_thread::yield();
    });
  }
  return all;
}

TEST(ThreadPoolTest, ThreadsApartShareOutTheProcessorsOfTheProcess) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  const int count = CPU_COUNT(&all);
  for (const int threads : {1, 2, count}) {
    if (threads > count) GTEST_SKIP() << "needs two processors";
    cpu_set_t together;
    CPU_ZERO(&together);
    int in_shares = 0;
    for (const cpu_set_t& share : ProcessorsOf(threads)) {
      CPU_OR(&together, &together, &share);
      in_shares += CPU_COUNT(&share);
    }
    EXPECT_TRUE(CPU_EQUAL(&together, &all)) << threads;
    EXPECT_EQ(in_shares, count) << "in more than one share; " << threads;
  }
}

TEST(ThreadPoolTest, MoreThreadsThanProcessorsRunAnywhere) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  for (const cpu_set_t& own : ProcessorsOf(CPU_COUNT(&all) + 1)) {
    EXPECT_TRUE(CPU_EQUAL(&own, &all));
  }
}

TEST(ThreadPoolTest, RunsWhatATaskAdds) {
  bool ran = false;
  {
    ThreadPool pool(1);
    pool.Run([&] { pool.Run([&] { ran = true; }); });
  }
  EXPECT_TRUE(ran);
}

TEST(ThreadPoolTest, TakesMoveOnlyTasks) {
  auto value = std::make_unique<int>(7);
  int seen = 0;
  {
    ThreadPool pool(1);
    pool.Run([&seen, value = std::move(value)] { seen = *value; });
  }
  EXPECT_EQ(seen, 7);
}

}  // namespace
}  // namespace tensorferry
