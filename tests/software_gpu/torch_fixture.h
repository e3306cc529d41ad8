#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_TORCH_FIXTURE_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_TORCH_FIXTURE_H_

#include <ATen/core/Tensor.h>

#include "tests/software_gpu/fixture.h"

namespace tensorferry::software_gpu {

// The allocators of libtorch give back what they keep. Waits for all devices.
void ReleaseTorchCaches();

// The same for tests with tensors on cuda:N: the allocators of libtorch give
// back what they keep, before leaks are looked for.
class SoftwareGpuTorchTest : public SoftwareGpuTest {
 protected:
  void ReleaseCaches() override { ReleaseTorchCaches(); }
};

// Options of a tensor on cuda:<device>.
at::TensorOptions OnDevice(int device, at::ScalarType dtype = at::kFloat);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_TORCH_FIXTURE_H_
