#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_

#include <cuda_runtime_api.h>

#include <functional>
#include <optional>
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

// How the host does the work of one of libtorch's kernels, by its demangled
// name; nullopt: it is none of the few that are modelled. `arguments` are
// copied.
std::optional<KernelLaunch> FindKernel(const std::string& name,
                                       void** arguments);

// A device that is touched outside of its memory fails for good, as a real one
// does.
cudaError_t EnqueueKernel(ApiCall& call, Stream& stream, KernelLaunch launch);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_
