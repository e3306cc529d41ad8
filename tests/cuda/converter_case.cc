#include "tests/testing/converter_case.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "serialization/converter_registry.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry {
namespace testing {
namespace {

void CopyAndWait(void* to, const void* from, size_t nbytes) {
  EXPECT_EQ(cudaMemcpy(to, from, nbytes, cudaMemcpyDefault), cudaSuccess);
}

c10::Storage MakeStorage(c10::Device device, const std::vector<char>& bytes) {
  c10::Storage storage =
      at::empty({static_cast<int64_t>(bytes.size())},
                at::TensorOptions().dtype(at::kByte).device(device))
          .storage();
  CopyAndWait(storage.mutable_data(), bytes.data(), bytes.size());
  return storage;
}

}  // namespace

// Of the last device: not the one that is current.
ConverterCase ConverterUnderTest() {
  const auto last =
      static_cast<c10::DeviceIndex>(c10::cuda::device_count() - 1);
  ConverterCase cuda;
  cuda.converter = *ConverterRegistry::Global().Find(c10::kCUDA);
  cuda.device = c10::Device(c10::kCUDA, last);
  cuda.carried_as = "cuda";
  cuda.stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, last);
  cuda.other_stream =
      c10::cuda::getStreamFromPool(/*isHighPriority=*/true, last);
  cuda.make_storage = [device = cuda.device](const std::vector<char>& bytes) {
    return MakeStorage(device, bytes);
  };
  cuda.read = [](const std::byte* data, size_t n) {
    std::vector<char> bytes(n);
    CopyAndWait(bytes.data(), data, n);
    return bytes;
  };
  cuda.write = [](std::byte* data, const std::vector<char>& bytes) {
    CopyAndWait(data, bytes.data(), bytes.size());
  };
  cuda.enqueue_write = [](std::byte* data, const std::vector<char>& bytes,
                          c10::Stream stream) {
    const c10::cuda::CUDAGuard guard(stream.device());
    EXPECT_EQ(
        cudaMemcpyAsync(data, bytes.data(), bytes.size(),
                        cudaMemcpyHostToDevice, c10::cuda::CUDAStream(stream)),
        cudaSuccess);
  };
#ifndef FERRY_REAL_GPU
  cuda.check = [] {
    EXPECT_THAT(software_gpu::TakeFindings(), ::testing::IsEmpty());
  };
#endif
  return cuda;
}

}  // namespace testing
}  // namespace tensorferry
