#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_KERNEL_LAUNCH_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_KERNEL_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {

struct KernelLaunch {
  std::string name;
  std::function<void()> body;
  std::vector<Range> reads;
  std::vector<Range> writes;
};

// A kernel that uses memory that is not there, or that its device cannot reach,
// makes the device fail for good when its turn has come, as on a real one.
cudaError_t EnqueueKernel(ApiCall& call, Stream& stream, KernelLaunch launch);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_KERNEL_LAUNCH_H_
