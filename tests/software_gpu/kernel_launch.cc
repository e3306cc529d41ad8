#include "tests/software_gpu/kernel_launch.h"

#include <string>
#include <utility>
#include <vector>

namespace tensorferry::software_gpu {
namespace {

// Whether kernels of that device can use the memory.
bool CheckReach(ApiCall& call, int device, const std::string& name,
                const Use& use) {
  if (!use.allocation) {
    call.machine.Report(Finding::Kind::kOutOfBounds,
                        name + " uses ordinary memory of the host");
    return false;
  }
  const int owner = use.allocation->device;
  if (!use.allocation->on_device() || owner == device ||
      call.machine.peers_enabled.contains({device, owner})) {
    return true;
  }
  call.machine.Report(Finding::Kind::kPeerAccess,
                      name + " of device " + std::to_string(device) +
                          " uses memory of device " + std::to_string(owner));
  return false;
}

// False, and a finding: the kernel cannot use all of these.
bool AddUses(ApiCall& call, const Stream& stream, const std::string& name,
             const std::vector<Range>& ranges, bool write,
             std::vector<Use>& uses) {
  for (const Range& range : ranges) {
    if (range.size == 0) continue;
    const Use use = {call.machine.allocations.Find(range.begin), range.begin,
                     range.size, write};
    if (!call.machine.CheckRange(name, use) ||
        !CheckReach(call, stream.device, name, use)) {
      return false;
    }
    uses.push_back(use);
  }
  return true;
}

}  // namespace

cudaError_t EnqueueKernel(ApiCall& call, Stream& stream, KernelLaunch launch) {
  std::vector<Use> uses;
  const bool legal =
      AddUses(call, stream, launch.name, launch.reads, /*write=*/false, uses) &&
      AddUses(call, stream, launch.name, launch.writes, /*write=*/true, uses);
  if (!legal) uses.clear();
  OperationPtr kernel = call.machine.Enqueue(stream, launch.name, uses);
  kernel->run = std::move(launch.body);
  if (!legal) kernel->fault = cudaErrorIllegalAddress;
  return cudaSuccess;
}

}  // namespace tensorferry::software_gpu
