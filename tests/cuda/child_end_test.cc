// A process that a test has started fails it for what the test itself would
// fail for.
#include "tests/cuda/child_end.h"

#include <ATen/ops/full.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace {

using ::tensorferry::software_gpu::OnDevice;
using ::tensorferry::testing::ChildProcess;

constexpr size_t kBytes = 1000;

void UseATensor() { at::full({1000}, 3, OnDevice(1)); }

void Race() {
  void* memory = nullptr;
  cudaMalloc(&memory, kBytes);
  for (int value : {1, 2}) {
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMemsetAsync(memory, value, kBytes, stream);
  }
  cudaFree(memory);
}

void Leak() {
  void* memory = nullptr;
  cudaMallocHost(&memory, kBytes);
}

void FailADevice() {
  software_gpu::FailDevice(nullptr, cudaErrorIllegalAddress);
}

const std::map<std::string, std::function<void()>> kChildren = {
    {"use_a_tensor", UseATensor},
    {"race", Race},
    {"leak", Leak},
    {"fail_a_device", FailADevice}};

// How the child ends that does this, and has `result` to tell.
int EndOf(const std::string& deed, int result = 0) {
  auto child = ChildProcess::Start({deed, std::to_string(result)});
  EXPECT_TRUE(child.ok()) << child.status();
  return child.ok() ? child->Wait() : -1;
}

TEST(ChildEndTest, WithItsResultIfNothingIsWrong) {
  EXPECT_EQ(EndOf("use_a_tensor"), 0);
  EXPECT_EQ(EndOf("use_a_tensor", 3), 3);
}

TEST(ChildEndTest, BadlyAfterARace) { EXPECT_EQ(EndOf("race"), 1); }

TEST(ChildEndTest, BadlyIfMemoryIsLeft) { EXPECT_EQ(EndOf("leak"), 1); }

TEST(ChildEndTest, BadlyIfWorkFailed) { EXPECT_EQ(EndOf("fail_a_device"), 1); }

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 3) {
    tensorferry::kChildren.at(argv[1])();
    return tensorferry::testing::EndChild(std::stoi(argv[2]));
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
