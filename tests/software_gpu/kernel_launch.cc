#include "tests/software_gpu/kernel_launch.h"

#include <string>
#include <utility>
#include <vector>

namespace tensorferry::software_gpu {
namespace {

// Whether kernels of that device can use the memory.
bool Reaches(ApiCall& call, int device, const Use& use) {
  if (!use.allocation || !use.allocation->on_device()) return true;
  const int owner = use.allocation->device;
  return owner == device ||
         call.machine.peers_enabled.contains({device, owner});
}

bool AddUses(ApiCall& call, const Stream& stream, const std::string& name,
             const std::vector<Range>& ranges, bool write,
             std::vector<Use>& uses) {
  for (const Range& range : ranges) {
    const Use use = {call.machine.allocations.Find(range.begin), range.begin,
                     range.size, write};
    if (!call.machine.CheckRange(name, use)) return false;
    if (!Reaches(call, stream.device, use)) {
      call.machine.Report(Finding::Kind::kPeerAccess,
                          name + " on device " + std::to_string(stream.device));
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
  if (legal) {
    kernel->run = std::move(launch.body);
  } else {
    kernel->fault = cudaErrorIllegalAddress;
  }
  return cudaSuccess;
}

}  // namespace tensorferry::software_gpu
