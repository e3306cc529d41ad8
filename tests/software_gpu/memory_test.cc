#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <string>
#include <vector>

#include "tests/software_gpu/fixture.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr size_t kSize = 1000;

class MemoryTest : public SoftwareGpuTest {
 protected:
  void SetUp() override {
    SoftwareGpuTest::SetUp();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
              cudaSuccess);
    ASSERT_EQ(cudaMalloc(&device_, kSize), cudaSuccess);
    ASSERT_EQ(cudaMallocHost(&pinned_, kSize), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(device_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    SoftwareGpuTest::TearDown();
  }

  std::string DeviceBytes(const void* p, size_t size) {
    std::string bytes(size, '\0');
    EXPECT_EQ(cudaMemcpy(bytes.data(), p, size, cudaMemcpyDeviceToHost),
              cudaSuccess);
    return bytes;
  }

  cudaStream_t stream_ = nullptr;
  void* device_ = nullptr;
  void* pinned_ = nullptr;
};

TEST_F(MemoryTest, BytesComeBackFromTheDevice) {
  const std::string sent(kSize, 'x');
  EXPECT_EQ(cudaMemcpy(device_, sent.data(), kSize, cudaMemcpyHostToDevice),
            cudaSuccess);
  EXPECT_EQ(DeviceBytes(device_, kSize), sent);
}

TEST_F(MemoryTest, TheHostCannotTouchDeviceMemory) {
  EXPECT_DEATH(memset(device_, 0, kSize), "");
}

TEST_F(MemoryTest, FreshMemoryHoldsNoZeros) {
  EXPECT_EQ(DeviceBytes(device_, 4), "\xa5\xa5\xa5\xa5");
}

TEST_F(MemoryTest, PinnedMemoryIsReadWhenTheCopyRuns) {
  memset(pinned_, 'a', kSize);
  EXPECT_EQ(
      cudaMemcpyAsync(device_, pinned_, kSize, cudaMemcpyHostToDevice, stream_),
      cudaSuccess);
  memset(pinned_, 'b', kSize);  // too early
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(DeviceBytes(device_, 2), "bb");
}

TEST_F(MemoryTest, OrdinaryMemoryIsReadBeforeTheCallReturns) {
  std::string ordinary(kSize, 'a');
  EXPECT_EQ(cudaMemcpyAsync(device_, ordinary.data(), kSize,
                            cudaMemcpyHostToDevice, stream_),
            cudaSuccess);
  ordinary.assign(kSize, 'b');
  EXPECT_EQ(Pending(stream_), 1u);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(DeviceBytes(device_, 2), "aa");
}

TEST_F(MemoryTest, OrdinaryMemoryIsWrittenBeforeTheCallReturns) {
  EXPECT_EQ(cudaMemsetAsync(device_, 'c', kSize, stream_), cudaSuccess);
  std::string ordinary(kSize, '\0');
  EXPECT_EQ(cudaMemcpyAsync(ordinary.data(), device_, kSize,
                            cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  EXPECT_EQ(ordinary, std::string(kSize, 'c'));
  EXPECT_THAT(TakeSynchronisingCalls(),
              ElementsAre(Pair("cudaMemcpyAsync", 1)));
}

TEST_F(MemoryTest, CopiesGoBetweenDevices) {
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  void* other = nullptr;
  EXPECT_EQ(cudaMalloc(&other, kSize), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(device_, 'd', kSize, stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyPeerAsync(other, 1, device_, 0, kSize, stream_),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(DeviceBytes(other, 2), "dd");
  EXPECT_EQ(cudaFree(other), cudaSuccess);
}

TEST_F(MemoryTest, TheDirectionOfACopyMustFitItsPointers) {
  EXPECT_EQ(
      cudaMemcpyAsync(device_, pinned_, kSize, cudaMemcpyDeviceToHost, stream_),
      cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(
      cudaMemcpyAsync(pinned_, device_, kSize, cudaMemcpyDefault, stream_),
      cudaSuccess);
}

TEST_F(MemoryTest, AttributesTellWhatAPointerIs) {
  cudaPointerAttributes attributes;
  EXPECT_EQ(cudaPointerGetAttributes(&attributes,
                                     static_cast<char*>(device_) + kSize - 1),
            cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 0);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, pinned_), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(attributes.hostPointer, pinned_);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, &attributes), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST_F(MemoryTest, RegisteredMemoryIsLikePinned) {
  std::string ordinary(kSize, 'a');
  EXPECT_EQ(cudaHostRegister(ordinary.data(), kSize, 0), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(ordinary.data(), kSize, 0),
            cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaMemsetAsync(device_, 'b', kSize, stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(ordinary.data(), device_, kSize,
                            cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  EXPECT_EQ(ordinary[0], 'a');
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(ordinary[0], 'b');
  EXPECT_EQ(cudaHostUnregister(ordinary.data()), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(ordinary.data()),
            cudaErrorHostMemoryNotRegistered);
}

TEST_F(MemoryTest, ADeviceHasAsMuchMemoryAsTheTestSays) {
  const size_t used = MemoryUsed(0);
  SetMemoryLimit(0, used + 100);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 101), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&p, 60), cudaSuccess);
  size_t free_bytes = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
  EXPECT_EQ(free_bytes, 40u);
  EXPECT_EQ(total, used + 100);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  SetMemoryLimit(0, size_t{4} << 30);
}

TEST_F(MemoryTest, ReadingAndWritingOutOfBoundsIsFound) {
  EXPECT_EQ(cudaMemcpyAsync(pinned_, device_, kSize + 1, cudaMemcpyDeviceToHost,
                            stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(static_cast<char*>(device_) + 1, 0, kSize, stream_),
            cudaErrorInvalidValue);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kOutOfBounds,
                                       Finding::Kind::kOutOfBounds));
}

TEST_F(MemoryTest, AKernelOutOfBoundsFailsItsDevice) {
  EXPECT_EQ(Launch(stream_, "far", [] {}, {}, {{device_, kSize + 1}}),
            cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kOutOfBounds));
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  ClearFailures();
}

TEST_F(MemoryTest, AKernelCannotUseOrdinaryMemory) {
  std::string ordinary(kSize, 'a');
  EXPECT_EQ(Launch(stream_, "lost", [] {}, {{ordinary.data(), kSize}},
                   {{pinned_, kSize}}),
            cudaSuccess);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kOutOfBounds));
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  ClearFailures();
}

TEST_F(MemoryTest, UseAfterFreeIsFound) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, kSize), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(p, 0, kSize, stream_), cudaErrorInvalidValue);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kUseAfterFree));
}

// cudaFree waits for the device of the memory, not for the others.
TEST_F(MemoryTest, WorkOfAnotherDeviceThatOutlivesItsMemoryIsFound) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, kSize), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  cudaStream_t other = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking),
            cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(p, 0, kSize, other), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kUseAfterFree));
  ClearFailures();
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(MemoryTest, InvalidFreesAreFound) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, kSize), cudaSuccess);
  EXPECT_EQ(cudaFree(static_cast<char*>(p) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(pinned_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(&p), cudaErrorInvalidValue);
  EXPECT_THAT(
      TakeKinds(),
      ElementsAre(Finding::Kind::kInvalidFree, Finding::Kind::kInvalidFree,
                  Finding::Kind::kInvalidFree, Finding::Kind::kInvalidFree));
}

TEST_F(MemoryTest, WhatIsNotFreedIsListed) {
  const auto before = LiveResources();
  void* p = nullptr;
  void* q = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 123), cudaSuccess);
  EXPECT_EQ(cudaMallocHost(&q, 456), cudaSuccess);
  std::vector<std::string> texts;
  for (const auto& [id, text] : LiveResources()) {
    if (!before.contains(id)) texts.push_back(text);
  }
  EXPECT_THAT(texts, ElementsAre("123 bytes of device 0",
                                 "456 bytes of pinned memory"));
  EXPECT_EQ(PinnedMemoryUsed(), 456 + kSize);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(q), cudaSuccess);
  EXPECT_EQ(LiveResources(), before);
}

}  // namespace
}  // namespace tensorferry::software_gpu
