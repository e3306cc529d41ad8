// The CUDA converter on devices that cannot be used. What holds for every
// converter is in converter_conformance_test, order in order_test.
#include <ATen/ops/arange.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "cuda/devices.h"
#include "serialization/converter_registry.h"
#include "tests/cuda/carry.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::software_gpu::SoftwareGpuTorchTest;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

const DeviceConverter& Converter() {
  return **ConverterRegistry::Global().Find(c10::kCUDA);
}

class CudaConverterTest : public SoftwareGpuTorchTest {
 protected:
  void TearDown() override {
    software_gpu::ClearFailures();
    software_gpu::SetMemoryLimit(1, size_t{4} << 30);  // as it was
    SoftwareGpuTorchTest::TearDown();
  }

  // What each function says of a stream of a device that cannot be used.
  void ExpectRefused(c10::Stream bad, const at::Tensor& tensor,
                     const std::string& what) {
    const auto refused =
        StatusIs(absl::StatusCode::kFailedPrecondition,
                 AllOf(HasSubstr(what), HasSubstr(bad.device().str())));
    const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
    EXPECT_THAT(
        Converter().PrepareToSend(tensor.storage(), {0, 8}, bad).status(),
        refused);
    EXPECT_THAT(
        Converter().AllocateToReceive(8, bad.device(), bad, nullptr).status(),
        refused);
    EXPECT_THAT(Converter().CopyToHost(data, 8, bad).status(), refused);
    EXPECT_THAT(Converter().Order(bad, good_), refused);
    EXPECT_THAT(Converter().Order(good_, bad), refused);
    std::optional<absl::Status> reached;
    Converter().WhenReached(
        bad, [&](absl::Status status) { reached = std::move(status); });
    ASSERT_TRUE(reached.has_value());
    EXPECT_THAT(*reached, refused);
  }

  const CUDAStream making_ = getStreamFromPool(false, 0);
  const CUDAStream bad_ = getStreamFromPool(false, 0);
  const CUDAStream good_ = getStreamFromPool(false, 1);
};

TEST_F(CudaConverterTest, ADeviceThatIsNotThereIsRefused) {
  ExpectRefused(c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::kCUDA, 7)),
                MadeOn(good_, at::arange(1000)), "cudaErrorInvalidDevice");
}

TEST_F(CudaConverterTest, ADeviceThatFailedIsRefused) {
  const at::Tensor tensor = MadeOn(making_, at::arange(1000));
  making_.synchronize();
  software_gpu::FailDevice(bad_, cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaStreamSynchronize(bad_), cudaErrorECCUncorrectable);
  cudaGetLastError();
  ExpectRefused(bad_, tensor, "cudaErrorECCUncorrectable");
}

TEST_F(CudaConverterTest, WorkThatFailsLaterEndsWhatWaitsForIt) {
  software_gpu::FailDevice(bad_, cudaErrorECCUncorrectable);
  absl::Notification came;
  absl::Status reached;
  Converter().WhenReached(bad_, [&](absl::Status status) {
    reached = std::move(status);
    came.Notify();
  });
  ASSERT_TRUE(came.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_THAT(reached, StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("cudaErrorECCUncorrectable")));
}

TEST_F(CudaConverterTest, MoreThanADeviceHasIsRefusedWithoutAskingIt) {
  const auto refused =
      StatusIs(absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr("cuda:1"), HasSubstr("in all")));
  const auto allocate = [&](uint64_t nbytes) {
    return Converter()
        .AllocateToReceive(nbytes, good_.device(), good_, nullptr)
        .status();
  };
  CudaDevices();  // as for the capabilities of a peer
  software_gpu::TakeCalls();
  EXPECT_THAT(allocate(uint64_t{1} << 50), refused);
  EXPECT_TRUE(software_gpu::TakeCalls().empty());
}

TEST_F(CudaConverterTest, MuchMoreThanIsFreeIsRefusedWithoutAskingItEither) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  CudaDevices();
  const uint64_t before = software_gpu::MemoryUsed(1);
  software_gpu::SetMemoryLimit(1, before + 200 * kMiB);
  const auto allocate = [&](uint64_t nbytes) {
    return Converter().AllocateToReceive(nbytes, good_.device(), good_,
                                         nullptr);
  };
  {
    const auto memory = allocate(150 * kMiB);
    ASSERT_TRUE(memory.ok()) << memory.status();
    software_gpu::TakeCalls();
    EXPECT_THAT(
        allocate(100 * kMiB).status(),
        StatusIs(absl::StatusCode::kResourceExhausted,
                 AllOf(HasSubstr("104857600 bytes on cuda:1, which has "),
                       HasSubstr(" free"))));
    EXPECT_TRUE(software_gpu::TakeCalls().empty());
  }
  // What libtorch keeps it gives out again.
  EXPECT_TRUE(allocate(150 * kMiB).ok());
}

}  // namespace
}  // namespace tensorferry
