#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <atomic>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/software_gpu/fixture.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class StreamTest : public SoftwareGpuTest {
 protected:
  void SetUp() override {
    SoftwareGpuTest::SetUp();
    for (cudaStream_t* stream : {&a_, &b_, &c_}) {
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                cudaSuccess);
    }
    for (cudaEvent_t* event : {&event_, &other_event_}) {
      ASSERT_EQ(cudaEventCreate(event), cudaSuccess);
    }
  }
  void TearDown() override {
    for (cudaStream_t stream : {a_, b_, c_}) {
      EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    }
    for (cudaEvent_t event : {event_, other_event_}) {
      EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    }
    SoftwareGpuTest::TearDown();
  }

  // A kernel that writes down its name.
  void Step(cudaStream_t stream, const std::string& name) {
    EXPECT_EQ(
        Launch(stream, name, [this, name] { ran_.push_back(name); }, {}, {}),
        cudaSuccess);
  }

  cudaStream_t a_ = nullptr;
  cudaStream_t b_ = nullptr;
  cudaStream_t c_ = nullptr;
  cudaEvent_t event_ = nullptr;
  cudaEvent_t other_event_ = nullptr;
  std::vector<std::string> ran_;  // written by one thread at a time
};

TEST_F(StreamTest, NothingRunsBeforeItIsAskedFor) {
  Step(a_, "a");
  Step(b_, "b");
  EXPECT_EQ(Pending(a_), 1u);
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("b"));
  EXPECT_EQ(Pending(a_), 1u);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("b", "a"));
}

TEST_F(StreamTest, AnEventBringsTheWorkBeforeItAndNoMore) {
  Step(a_, "before");
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  Step(a_, "behind");
  EXPECT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  Step(b_, "waits");
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("before", "waits"));
}

TEST_F(StreamTest, AWaitIsForTheLastRecordBeforeIt) {
  Step(a_, "first");
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  Step(c_, "second");
  EXPECT_EQ(cudaEventRecord(event_, c_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("first"));
}

TEST_F(StreamTest, AnEventThatWasNeverRecordedHoldsNobodyUp) {
  EXPECT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(Pending(b_), 0u);
}

TEST_F(StreamTest, QueriesSayNotReadyAsOftenAsTheScheduleWants) {
  SetSchedule({.unready_answers = 3});
  Hold(a_);
  Step(a_, "a");
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  }
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(a_), cudaErrorNotReady);
  Release(a_);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(a_), cudaSuccess);
}

TEST_F(StreamTest, WorkThatIsQueriedRunsInTheEnd) {
  Step(a_, "a");
  while (cudaStreamQuery(a_) == cudaErrorNotReady) std::this_thread::yield();
  EXPECT_THAT(ran_, ElementsAre("a"));
}

TEST_F(StreamTest, HostFunctionsRunUnasked) {
  std::atomic<bool> called{false};
  Step(a_, "a");
  EXPECT_EQ(cudaLaunchHostFunc(
                a_,
                [](void* flag) {
                  auto* called = static_cast<std::atomic<bool>*>(flag);
                  called->store(true);
                  called->notify_all();
                },
                &called),
            cudaSuccess);
  called.wait(false);
  EXPECT_THAT(ran_, ElementsAre("a"));
}

TEST_F(StreamTest, HostFunctionsMayComeLate) {
  SetSchedule({.host_function_delay = std::chrono::hours(1)});
  EXPECT_EQ(cudaLaunchHostFunc(
                a_, [](void*) {}, nullptr),
            cudaSuccess);
  Step(b_, "b");
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_EQ(Pending(a_), 1u);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(Pending(a_), 0u);
}

TEST_F(StreamTest, ACallbackLearnsItsStreamAndThatAllIsWell) {
  struct Seen {
    cudaStream_t stream = nullptr;
    cudaError_t status = cudaErrorUnknown;
  } seen;
  EXPECT_EQ(cudaStreamAddCallback(
                a_,
                [](cudaStream_t stream, cudaError_t status, void* p) {
                  *static_cast<Seen*>(p) = {stream, status};
                },
                &seen, 0),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(seen.stream, a_);
  EXPECT_EQ(seen.status, cudaSuccess);
}

TEST_F(StreamTest, AHostFunctionMustNotCallCuda) {
  EXPECT_EQ(cudaLaunchHostFunc(
                a_,
                [](void*) {
                  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorNotPermitted);
                },
                nullptr),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kHostFunction));
}

TEST_F(StreamTest, AHeldStreamHoldsUpWhoWaitsForIt) {
  Hold(a_);
  Step(a_, "held");
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  Step(b_, "waits");
  Step(c_, "free");
  std::thread waiter(
      [&] { EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess); });
  EXPECT_EQ(cudaStreamSynchronize(c_), cudaSuccess);
  EXPECT_EQ(Pending(b_), 2u);
  Release(a_);
  waiter.join();
  EXPECT_THAT(ran_, ElementsAre("free", "held", "waits"));
}

TEST_F(StreamTest, WhoWaitsForAStreamDoesNotWaitForWhatComesLater) {
  Hold(a_);
  Step(a_, "before");
  std::thread waiter(
      [&] { EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess); });
  // The call counts itself when it begins to wait.
  std::map<std::string, int> calls;
  while (calls.empty()) calls = TakeSynchronisingCalls();
  Step(a_, "later");
  Release(a_);
  waiter.join();
  EXPECT_THAT(ran_, ElementsAre("before"));
}

TEST_F(StreamTest, TheDefaultStreamOrdersBlockingStreams) {
  cudaStream_t blocking = nullptr;
  EXPECT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  Step(blocking, "before");
  Step(a_, "beside");
  Step(nullptr, "default");
  Step(blocking, "after");
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("before", "default", "after"));
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(StreamTest, NewestFirstIsTheOrderOfTwoStreamsUnlessToldOtherwise) {
  Step(a_, "a");
  Step(b_, "b");
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("b", "a"));
  ran_.clear();
  SetSchedule({.order = Schedule::Order::kOldestFirst});
  Step(a_, "a");
  Step(b_, "b");
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(ran_, ElementsAre("a", "b"));
}

TEST_F(StreamTest, RandomSchedulesDifferBySeedAndKeepTheOrderOfEachStream) {
  const auto run = [&](uint64_t seed) {
    SetSchedule({.order = Schedule::Order::kRandom, .seed = seed});
    ran_.clear();
    for (int i = 0; i < 4; ++i) {
      Step(a_, "a" + std::to_string(i));
      Step(b_, "b" + std::to_string(i));
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return ran_;
  };
  std::set<std::vector<std::string>> seen;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const std::vector<std::string> order = run(seed);
    EXPECT_EQ(order, run(seed)) << "seed " << seed;
    std::vector<std::string> of_a;
    for (const std::string& name : order) {
      if (name[0] == 'a') of_a.push_back(name);
    }
    EXPECT_THAT(of_a, ElementsAre("a0", "a1", "a2", "a3"));
    seen.insert(order);
  }
  EXPECT_GT(seen.size(), 3u);
}

TEST_F(StreamTest, AStreamMayRunByItselfAfterAWhile) {
  SetSchedule({.run_unasked_after = std::chrono::milliseconds(1)});
  std::atomic<bool> ran{false};
  EXPECT_EQ(Launch(a_, "flag",
                   [&] {
                     ran = true;
                     ran.notify_all();
                   },
                   {}, {}),
            cudaSuccess);
  ran.wait(false);
}

TEST_F(StreamTest, EventsTellTheTimeBetweenThem) {
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(other_event_, a_), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, event_, other_event_),
            cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, event_, other_event_),
            cudaSuccess);
  EXPECT_GE(milliseconds, 0);
}

TEST_F(StreamTest, DestroyedHandlesAreFound) {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, a_), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kInvalidHandle,
                                       Finding::Kind::kInvalidHandle));
}

TEST_F(StreamTest, AnEventOfAnotherDeviceCannotBeRecorded) {
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, a_), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kInvalidHandle));
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(StreamTest, CallsThatWaitAreCounted) {
  EXPECT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(b_, event_, 0), cudaSuccess);
  EXPECT_THAT(TakeSynchronisingCalls(), IsEmpty());
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_THAT(TakeSynchronisingCalls(),
              ElementsAre(Pair("cudaEventSynchronize", 1),
                          Pair("cudaStreamSynchronize", 1)));
}

}  // namespace
}  // namespace tensorferry::software_gpu
