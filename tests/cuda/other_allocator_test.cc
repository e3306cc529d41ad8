// The CUDA converter where the process has put an allocator of its own in the
// place of libtorch's.
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

#include <memory>
#include <string>
#include <utility>

#include "cuda/devices.h"
#include "serialization/converter_registry.h"
#include "tests/software_gpu/fixture.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::software_gpu::SoftwareGpuTest;
using ::tensorferry::testing::IsOk;
using ::torch::cuda::CUDAPluggableAllocator::changeCurrentAllocator;
using ::torch::cuda::CUDAPluggableAllocator::CUDAPluggableAllocator;

// Libtorch's own allocator.
constexpr char kNative[] = "native";

constexpr uint64_t kMuch = uint64_t{128} << 20;

// Has as much memory as anybody wants, but gives little.
class OtherAllocator : public CUDAPluggableAllocator {
 public:
  OtherAllocator() : CUDAPluggableAllocator(&Allocate, &Free) {}

  std::string name() override { return name_; }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(
      c10::DeviceIndex device) override {
    if (name_ != kNative) return CUDAPluggableAllocator::getDeviceStats(device);
    ++asked_;
    return {};
  }

  void set_name(std::string name) { name_ = std::move(name); }
  int asked() const { return asked_; }

 private:
  static void* Allocate(size_t, int, cudaStream_t) {
    void* data = nullptr;
    cudaMalloc(&data, 1);
    return data;
  }
  static void Free(void* data, size_t, int, cudaStream_t) { cudaFree(data); }

  std::string name_ = "pluggable";
  int asked_ = 0;
};

class OtherAllocatorTest : public SoftwareGpuTest {
 protected:
  static void SetUpTestSuite() {
    allocator_->init(/*device_count=*/2);
    changeCurrentAllocator(allocator_);
    CudaDevices();  // as for the capabilities of a peer
  }

  static absl::Status Allocate(uint64_t nbytes) {
    const c10::Stream stream = c10::cuda::getDefaultCUDAStream(0);
    return (*ConverterRegistry::Global().Find(c10::kCUDA))
        ->AllocateToReceive(nbytes, stream.device(), stream, nullptr)
        .status();
  }

  inline static const std::shared_ptr<OtherAllocator> allocator_ =
      std::make_shared<OtherAllocator>();
};

// Who initialises it may not be through. This is the first to allocate.
TEST_F(OtherAllocatorTest, LibtorchsIsNotAskedBeforeItIsKnownToBeUp) {
  allocator_->set_name(kNative);
  EXPECT_TRUE(allocator_->initialized());
  EXPECT_THAT(Allocate(kMuch), IsOk());
  EXPECT_EQ(allocator_->asked(), 0);
  EXPECT_THAT(Allocate(kMuch), IsOk());
  EXPECT_EQ(allocator_->asked(), 1);
  allocator_->set_name("pluggable");
}

TEST_F(OtherAllocatorTest, SaysItselfWhatItHas) {
  EXPECT_THAT(Allocate(kMuch), IsOk());
  EXPECT_THAT(Allocate(uint64_t{1} << 50), IsOk());
}

}  // namespace
}  // namespace tensorferry
