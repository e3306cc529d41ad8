#ifndef TENSORFERRY_TESTS_CUDA_REAL_GPU_H_
#define TENSORFERRY_TESTS_CUDA_REAL_GPU_H_

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

// In the place of tests/software_gpu/torch_fixture.h, under --config=gpu.
namespace tensorferry::real_gpu {

// Fails if there is no GPU, or if work of any ended with an error.
class RealGpuTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
};

// Options of a tensor on cuda:<device>.
at::TensorOptions OnDevice(int device, at::ScalarType dtype = at::kFloat);

}  // namespace tensorferry::real_gpu

#endif  // TENSORFERRY_TESTS_CUDA_REAL_GPU_H_
