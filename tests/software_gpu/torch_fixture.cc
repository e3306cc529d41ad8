#include "tests/software_gpu/torch_fixture.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>

namespace tensorferry::software_gpu {

void ReleaseTorchCaches() {
  int devices = 0;
  cudaGetDeviceCount(&devices);
  for (int device = 0; device < devices; ++device) {
    cudaSetDevice(device);
    cudaDeviceSynchronize();
  }
  c10::cuda::CUDACachingAllocator::emptyCache();
  at::getHostAllocator(at::kCUDA)->empty_cache();
}

at::TensorOptions OnDevice(int device, at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(
      at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device)));
}

}  // namespace tensorferry::software_gpu
