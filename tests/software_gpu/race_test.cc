#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/software_gpu/fixture.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr size_t kSize = 1000;

class RaceTest : public SoftwareGpuTest {
 protected:
  void SetUp() override {
    SoftwareGpuTest::SetUp();
    for (cudaStream_t* stream : {&a_, &b_}) {
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                cudaSuccess);
    }
    ASSERT_EQ(cudaEventCreate(&event_), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&p_, kSize), cudaSuccess);
    ASSERT_EQ(cudaMallocHost(&pinned_, kSize), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(p_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    for (cudaStream_t stream : {a_, b_}) {
      EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    }
    SoftwareGpuTest::TearDown();
  }

  char* At(size_t offset) { return static_cast<char*>(p_) + offset; }
  void Write(cudaStream_t stream, size_t offset = 0, size_t size = kSize) {
    EXPECT_EQ(Launch(stream, "writer", [] {}, {}, {{At(offset), size}}),
              cudaSuccess);
  }
  void Read(cudaStream_t stream, size_t offset = 0, size_t size = kSize) {
    EXPECT_EQ(Launch(stream, "reader", [] {}, {{At(offset), size}}, {}),
              cudaSuccess);
  }
  void Order(cudaStream_t first, cudaStream_t second) {
    EXPECT_EQ(cudaEventRecord(event_, first), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(second, event_, 0), cudaSuccess);
  }

  cudaStream_t a_ = nullptr;
  cudaStream_t b_ = nullptr;
  cudaEvent_t event_ = nullptr;
  void* p_ = nullptr;
  void* pinned_ = nullptr;
};

TEST_F(RaceTest, AReadBesideAWriteIsARaceWhoeverComesFirst) {
  Write(a_);
  Read(b_);
  EXPECT_THAT(
      TakeFindings(),
      ElementsAre(AllOf(
          Field(&Finding::kind, Finding::Kind::kRace),
          Field(&Finding::text, AllOf(HasSubstr("read of [0, 1000) by reader"),
                                      HasSubstr("write of [0, 1000) by writer"),
                                      HasSubstr("of 1000 bytes"))))));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  Read(b_);
  Write(a_);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

// Whether the work has run says nothing: it might not have.
TEST_F(RaceTest, ARaceIsFoundThoughTheWorkRanInTime) {
  Write(a_);
  while (cudaStreamQuery(b_) == cudaErrorNotReady) {
  }
  SetSchedule({.run_unasked_after = std::chrono::milliseconds(0)});
  while (Pending(a_) > 0) {
  }
  Read(b_);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(RaceTest, ReadsBesideEachOtherAreNone) {
  Read(a_);
  Read(b_);
}

TEST_F(RaceTest, BytesBesideEachOtherAreNone) {
  Write(a_, 0, 500);
  Write(b_, 500, 500);
  Read(a_, 0, 500);
  Read(b_, 499, 1);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(RaceTest, AnEventOrders) {
  Write(a_);
  Order(a_, b_);
  Read(b_);
}

TEST_F(RaceTest, AnEventOrdersOnlyWhatIsBeforeIt) {
  Order(a_, b_);
  Write(a_);
  Read(b_);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(RaceTest, AnOldWriteIsNotHiddenByOrderedReads) {
  Write(a_);
  Read(a_);
  Read(b_);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(RaceTest, AHostThatWaitedOrders) {
  Write(a_);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  Read(b_);
}

TEST_F(RaceTest, AHostFunctionThatRanOrders) {
  Write(a_);
  EXPECT_EQ(cudaLaunchHostFunc(
                a_, [](void*) {}, nullptr),
            cudaSuccess);
  while (Pending(a_) > 0) {
  }
  Read(b_);
}

TEST_F(RaceTest, TheDefaultStreamOrdersBlockingStreamsOnly) {
  cudaStream_t blocking = nullptr;
  EXPECT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  Write(nullptr);
  Read(blocking);
  EXPECT_THAT(TakeKinds(), ElementsAre());
  Read(a_);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(RaceTest, CopiesAndFillsAreUses) {
  EXPECT_EQ(cudaMemsetAsync(p_, 0, kSize, a_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned_, p_, kSize, cudaMemcpyDeviceToHost, b_),
            cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
  EXPECT_EQ(cudaMemcpyAsync(pinned_, p_, kSize, cudaMemcpyDeviceToHost, a_),
            cudaSuccess);
  // Pinned memory is written on both.
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(RaceTest, TheHostRacesWithWorkOnPinnedMemory) {
  EXPECT_EQ(cudaMemcpyAsync(p_, pinned_, kSize, cudaMemcpyHostToDevice, a_),
            cudaSuccess);
  HostReads(pinned_, kSize);
  EXPECT_THAT(TakeKinds(), ElementsAre());
  HostWrites(pinned_, kSize);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  HostWrites(pinned_, kSize);
}

}  // namespace
}  // namespace tensorferry::software_gpu
