#include "tests/software_gpu/kernels.h"

#include <utility>

namespace tensorferry::software_gpu {
namespace {

bool AddUses(ApiCall& call, const std::string& name,
             const std::vector<Range>& ranges, bool write,
             std::vector<Use>& uses) {
  for (const Range& range : ranges) {
    const Use use = {call.machine.allocations.Find(range.begin), range.begin,
                     range.size, write};
    if (!call.machine.CheckRange(name, use)) return false;
    uses.push_back(use);
  }
  return true;
}

}  // namespace

cudaError_t EnqueueKernel(ApiCall& call, Stream& stream, KernelLaunch launch) {
  std::vector<Use> uses;
  const bool legal =
      AddUses(call, launch.name, launch.reads, /*write=*/false, uses) &&
      AddUses(call, launch.name, launch.writes, /*write=*/true, uses);
  if (!legal) uses.clear();
  OperationPtr kernel = call.machine.Enqueue(stream, launch.name, uses);
  if (legal) {
    kernel->run = std::move(launch.body);
  } else {
    kernel->fault = cudaErrorIllegalAddress;
  }
  return cudaSuccess;
}

std::optional<KernelLaunch> FindKernel(const std::string& /*name*/,
                                       void** /*arguments*/) {
  return std::nullopt;
}

}  // namespace tensorferry::software_gpu
