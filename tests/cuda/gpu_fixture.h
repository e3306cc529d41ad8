#ifndef TENSORFERRY_TESTS_CUDA_GPU_FIXTURE_H_
#define TENSORFERRY_TESTS_CUDA_GPU_FIXTURE_H_

#ifdef FERRY_REAL_GPU  // by --config=gpu
#include "tests/cuda/real_gpu.h"
#else
#include "tests/software_gpu/torch_fixture.h"
#endif

// For gpu_cc_test: tests with tensors on cuda:N that run on the software GPU
// and, under --config=gpu, on this machine's own. They keep to what both have;
// who plants failures, holds streams or takes findings uses
// software_gpu_cc_test and its fixtures.
namespace tensorferry::testing {

#ifdef FERRY_REAL_GPU
inline constexpr bool kOnRealGpu = true;
using GpuTestBase = real_gpu::RealGpuTest;
using real_gpu::OnDevice;
#else
inline constexpr bool kOnRealGpu = false;
using GpuTestBase = software_gpu::SoftwareGpuTorchTest;
using software_gpu::OnDevice;
#endif

// Needs one GPU, and fails without. Passes only if all work of all devices ends
// well; in software also only without findings and leaks.
class GpuTest : public GpuTestBase {};

inline int GpuCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// Skips the test with the reason where there is one.
inline void SkipUnlessThereAreTwoGpus() {
  if (GpuCount() < 2) GTEST_SKIP() << "needs 2 GPUs, here is " << GpuCount();
}

// Of a GPU that is not the current one, or the only one.
inline int OtherGpu() { return GpuCount() < 2 ? 0 : 1; }

class TwoGpuTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!HasFatalFailure()) SkipUnlessThereAreTwoGpus();
  }
};

}  // namespace tensorferry::testing

#endif  // TENSORFERRY_TESTS_CUDA_GPU_FIXTURE_H_
