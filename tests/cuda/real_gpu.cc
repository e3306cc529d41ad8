#include "tests/cuda/real_gpu.h"

#include "cuda/devices.h"

namespace tensorferry::real_gpu {

void RealGpuTest::SetUp() {
  const absl::Status usable = CudaUsable();
  ASSERT_TRUE(usable.ok()) << usable.message();
}

void RealGpuTest::TearDown() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) return;  // SetUp has said so
  for (int device = 0; device < devices; ++device) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "device " << device;
  }
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
}

at::TensorOptions OnDevice(int device, at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(
      at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device)));
}

}  // namespace tensorferry::real_gpu
