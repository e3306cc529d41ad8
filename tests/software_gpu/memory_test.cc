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
using ::testing::HasSubstr;

class MemoryTest : public SoftwareGpuTest {};

TEST_F(MemoryTest, BytesComeBackFromTheDevice) {
  const std::vector<int> sent = {1, 2, 3, 4};
  std::vector<int> received(4);
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(p, sent.data(), 16, cudaMemcpyHostToDevice),
            cudaSuccess);
  ASSERT_EQ(cudaMemcpy(received.data(), p, 16, cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(received, sent);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

TEST_F(MemoryTest, TheHostCannotTouchDeviceMemory) {
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  EXPECT_DEATH(memset(p, 0, 16), "");
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

}  // namespace
}  // namespace tensorferry::software_gpu
