#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/software_gpu/torch_fixture.h"

namespace tensorferry::software_gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TorchTest : public SoftwareGpuTorchTest {
 protected:
  static at::Tensor Numbers(int64_t n = 1000) {
    return at::arange(n, at::kFloat);
  }
};

TEST_F(TorchTest, TensorsGoToADeviceAndComeBack) {
  EXPECT_EQ(c10::cuda::device_count(), 2);
  const at::Tensor sent = Numbers();
  at::Tensor there = at::empty({1000}, OnDevice(0));
  there.copy_(sent);
  const at::Tensor other = there.to(at::Device(at::kCUDA, 1));
  EXPECT_EQ(other.device(), at::Device(at::kCUDA, 1));
  EXPECT_TRUE(at::equal(other.cpu(), sent));
  EXPECT_TRUE(at::equal(other.slice(0, 10, 20).cpu(), sent.slice(0, 10, 20)));
}

TEST_F(TorchTest, PinnedTensorsAreCopiedWithoutWaiting) {
  const at::Tensor pinned = Numbers().pin_memory();
  EXPECT_TRUE(pinned.is_pinned());
  EXPECT_FALSE(Numbers().is_pinned());
  const auto stream = c10::cuda::getStreamFromPool(false, 0);
  at::Tensor there, back;
  {
    c10::cuda::CUDAStreamGuard guard(stream);
    there = at::empty({1000}, OnDevice(0));
    TakeSynchronisingCalls();
    there.copy_(pinned, /*non_blocking=*/true);
    EXPECT_THAT(TakeSynchronisingCalls(), IsEmpty());
    EXPECT_EQ(Pending(stream), 1u);
    back = there.cpu();
  }
  EXPECT_TRUE(at::equal(back, pinned));
}

TEST_F(TorchTest, EventsOrderStreams) {
  const auto first = c10::cuda::getStreamFromPool(false, 0);
  const auto second = c10::cuda::getStreamFromPool(true, 0);
  const at::Tensor pinned = Numbers().pin_memory();
  at::Tensor a = at::empty({1000}, OnDevice(0));
  at::Tensor b = at::empty({1000}, OnDevice(0));
  at::cuda::CUDAEvent event;
  {
    c10::cuda::CUDAStreamGuard guard(first);
    a.copy_(pinned, true);
    event.record(first);
  }
  event.block(second);
  {
    c10::cuda::CUDAStreamGuard guard(second);
    b.copy_(a, true);
  }
  EXPECT_FALSE(event.query());
  second.synchronize();
  EXPECT_TRUE(event.query());
  c10::cuda::CUDAStreamGuard guard(second);
  EXPECT_TRUE(at::equal(b.cpu(), pinned));
}

TEST_F(TorchTest, AStreamThatDoesNotWaitIsARace) {
  const auto first = c10::cuda::getStreamFromPool(false, 0);
  const auto second = c10::cuda::getStreamFromPool(false, 0);
  const at::Tensor pinned = Numbers().pin_memory();
  at::Tensor a = at::empty({1000}, OnDevice(0));
  {
    c10::cuda::CUDAStreamGuard guard(first);
    a.copy_(pinned, true);
  }
  {
    c10::cuda::CUDAStreamGuard guard(second);
    EXPECT_FALSE(at::equal(a.cpu(), pinned));  // it had not run
  }
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

// The allocator gives a block again to the stream that allocated it.
void UseOnAnotherStreamAndReuse(bool record) {
  const auto owner = c10::cuda::getStreamFromPool(false, 0);
  const auto user = c10::cuda::getStreamFromPool(false, 0);
  at::Tensor target = at::empty({1000}, OnDevice(0));
  at::Tensor block;
  at::cuda::CUDAEvent written;
  {
    c10::cuda::CUDAStreamGuard guard(owner);
    block = at::empty({1000}, OnDevice(0));
    block.copy_(at::arange(1000, at::kFloat).pin_memory(), true);
    written.record(owner);
  }
  written.block(user);
  {
    c10::cuda::CUDAStreamGuard guard(user);
    target.copy_(block, true);
  }
  if (record) {
    c10::cuda::CUDACachingAllocator::recordStream(block.storage().data_ptr(),
                                                  user);
  }
  const void* const was = block.data_ptr();
  block.reset();
  c10::cuda::CUDAStreamGuard guard(owner);
  at::Tensor next = at::empty({1000}, OnDevice(0));
  EXPECT_EQ(next.data_ptr() == was, !record);
  next.copy_(at::arange(1000, at::kFloat).pin_memory(), true);
}

TEST_F(TorchTest, ABlockUsedOnAnotherStreamWithoutARecordIsARace) {
  UseOnAnotherStreamAndReuse(/*record=*/false);
  EXPECT_THAT(TakeKinds(), ElementsAre(Finding::Kind::kRace));
}

TEST_F(TorchTest, ABlockThatWasRecordedIsNotGivenAgainTooEarly) {
  UseOnAnotherStreamAndReuse(/*record=*/true);
}

TEST_F(TorchTest, ADeviceWithoutMemorySaysSo) {
  SetMemoryLimit(0, MemoryUsed(0) + (4 << 20));
  try {
    at::empty({64 << 20}, OnDevice(0));
    ADD_FAILURE() << "there was memory";
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("out of memory"));
  }
  cudaGetLastError();
  SetMemoryLimit(0, size_t{4} << 30);
}

TEST_F(TorchTest, FailuresAreExceptionsWithTheirText) {
  const at::Tensor pinned = Numbers().pin_memory();
  at::Tensor there = at::empty({1000}, OnDevice(0));
  const auto error_of_copy = [&]() -> std::string {
    try {
      there.copy_(pinned, /*non_blocking=*/true);
    } catch (const c10::Error& error) {
      return error.what();
    }
    return "";
  };
  FailCall("cudaMemcpyAsync", 2, cudaErrorInvalidValue);
  EXPECT_EQ(error_of_copy(), "");
  EXPECT_THAT(error_of_copy(), HasSubstr("invalid argument"));
  EXPECT_EQ(error_of_copy(), "");
  FailDevice(c10::cuda::getDefaultCUDAStream(0), cudaErrorECCUncorrectable);
  EXPECT_THROW(c10::cuda::getDefaultCUDAStream(0).synchronize(), c10::Error);
  EXPECT_THAT(error_of_copy(), HasSubstr("uncorrectable ECC error"));
  ClearFailures();
  EXPECT_EQ(error_of_copy(), "");
}

// Which is freed when the kernel has run.
TEST_F(TorchTest, AKernelMayHoldTheLastReferenceToATensor) {
  const auto stream = c10::cuda::getStreamFromPool(false, 0);
  at::Tensor tensor = at::empty({1000}, OnDevice(0));
  c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(),
                                                stream);
  float* const p = tensor.data_ptr<float>();
  EXPECT_EQ(Launch(stream, "sevens",
                   [tensor, p] { *static_cast<float*>(HostView(p)) = 7; }, {},
                   {{p, 4000}}),
            cudaSuccess);
  tensor.reset();
  stream.synchronize();
}

TEST_F(TorchTest, AKernelThatIsNotModelledIsNamed) {
  const at::Tensor a = at::empty({2, 2}, OnDevice(0));
  EXPECT_THROW(a.sin(), c10::Error);
  cudaGetLastError();
  const std::vector<Finding> findings = TakeFindings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].kind, Finding::Kind::kKernel);
  EXPECT_THAT(findings[0].text, HasSubstr("sin"));
}

TEST_F(TorchTest, FillAndAddGiveTheRightValues) {
  for (const at::ScalarType dtype :
       {at::kFloat, at::kDouble, at::kInt, at::kLong}) {
    SCOPED_TRACE(c10::toString(dtype));
    const at::Tensor ones = at::ones({1001}, OnDevice(0, dtype));
    EXPECT_TRUE(at::equal(ones.cpu(), at::ones({1001}, dtype)));
    EXPECT_TRUE(at::equal(at::zeros({5}, OnDevice(0, dtype)).cpu(),
                          at::zeros({5}, dtype)));
    const at::Tensor sevens = at::full({1001}, 7, OnDevice(0, dtype));
    EXPECT_TRUE(
        at::equal(at::add(ones, sevens, 3).cpu(), at::full({1001}, 22, dtype)));
    at::Tensor threes = at::add(ones, 2);
    threes.add_(ones);
    EXPECT_TRUE(at::equal(threes.cpu(), at::full({1001}, 4, dtype)));
    threes.fill_(9);
    EXPECT_TRUE(at::equal(threes.cpu(), at::full({1001}, 9, dtype)));
  }
}

TEST_F(TorchTest, CopiesOfViewsGiveTheRightValues) {
  for (const at::ScalarType dtype :
       {at::kFloat, at::kDouble, at::kByte, at::kHalf, at::kComplexFloat}) {
    SCOPED_TRACE(c10::toString(dtype));
    const at::Tensor values = at::arange(60, at::kFloat).to(dtype);
    const at::Tensor sent = values.reshape({3, 4, 5});
    const at::Tensor there = sent.to(at::Device(at::kCUDA, 0));
    EXPECT_TRUE(at::equal(there.transpose(0, 2).contiguous().cpu(),
                          sent.transpose(0, 2).contiguous()));
    EXPECT_TRUE(at::equal(there.slice(2, 1, 5, 2).contiguous().cpu(),
                          sent.slice(2, 1, 5, 2).contiguous()));
    EXPECT_TRUE(at::equal(there.select(1, 2).cpu(), sent.select(1, 2)));
    at::Tensor target = at::zeros({5, 4, 3}, OnDevice(0, dtype));
    target.transpose(0, 2).copy_(there);
    EXPECT_TRUE(at::equal(target.cpu(), sent.transpose(0, 2)));
  }
}

}  // namespace
}  // namespace tensorferry::software_gpu
