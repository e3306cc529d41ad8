// What the conformance test has to know about the toy GPU.
#include "tests/testing/converter_case.h"

#include <c10/core/Storage.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "examples/toy_gpu/toy_gpu.h"
#include "serialization/converter_registry.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry {
namespace testing {
namespace {

const c10::Device kDevice(toy_gpu::kType, 1);

void CopyAndWait(void* to, const void* from, size_t nbytes) {
  EXPECT_EQ(cudaMemcpy(to, from, nbytes, cudaMemcpyDefault), cudaSuccess);
}

}  // namespace

ConverterCase ConverterUnderTest() {
  ConverterCase mine;
  mine.converter = *ConverterRegistry::Global().Find(toy_gpu::kType);
  mine.device = kDevice;
  mine.carried_as = "cuda";
  mine.stream = toy_gpu::StreamOf(kDevice);
  mine.other_stream = toy_gpu::StreamOf(kDevice, /*high_priority=*/true);
  mine.make_storage = [](const std::vector<char>& bytes) {
    c10::Storage storage(c10::Storage::use_byte_size_t(), bytes.size(),
                         toy_gpu::Allocate(kDevice, bytes.size()));
    CopyAndWait(storage.mutable_data(), bytes.data(), bytes.size());
    return storage;
  };
  mine.read = [](const std::byte* data, size_t n) {
    std::vector<char> bytes(n);
    CopyAndWait(bytes.data(), data, n);
    return bytes;
  };
  mine.write = [](std::byte* data, const std::vector<char>& bytes) {
    CopyAndWait(data, bytes.data(), bytes.size());
  };
  mine.enqueue_write = [](std::byte* data, const std::vector<char>& bytes,
                          c10::Stream stream) {
    const c10::cuda::CUDAStream on_gpu(toy_gpu::OnGpu(stream));
    const c10::cuda::CUDAGuard guard(on_gpu.device());
    EXPECT_EQ(cudaMemcpyAsync(data, bytes.data(), bytes.size(),
                              cudaMemcpyHostToDevice, on_gpu),
              cudaSuccess);
  };
  mine.check = [] {
    EXPECT_THAT(software_gpu::TakeFindings(), ::testing::IsEmpty());
  };
  return mine;
}

}  // namespace testing
}  // namespace tensorferry
