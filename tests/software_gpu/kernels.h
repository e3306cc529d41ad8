#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_

#include <optional>
#include <string>

#include "tests/software_gpu/kernel_launch.h"

namespace tensorferry::software_gpu {

// How the host does the work of one of libtorch's kernels, by its demangled
// name; nullopt: it is none of the few that are modelled. `arguments` are
// copied.
std::optional<KernelLaunch> FindKernel(const std::string& name,
                                       void** arguments);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_KERNELS_H_
