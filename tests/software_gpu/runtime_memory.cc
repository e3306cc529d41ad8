// Memory of the devices and pinned memory of the host.

#include <cuda_runtime_api.h>
#include <string.h>
#include <sys/mman.h>

#include <memory>
#include <sstream>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

cudaError_t InvalidFree(ApiCall& call, const void* p, const char* why) {
  std::ostringstream text;
  text << call.function << "(" << p << "): " << why;
  call.machine.Report(Finding::Kind::kInvalidFree, text.str());
  return cudaErrorInvalidValue;
}

// The allocation that begins at `p`; null, and a finding: there is none to
// free.
AllocationPtr FindToFree(ApiCall& call, const void* p, Allocation::Kind kind) {
  AllocationPtr allocation = call.machine.allocations.Find(p);
  if (!allocation || allocation->kind != kind) {
    InvalidFree(call, p, "no such allocation");
  } else if (allocation->freed) {
    InvalidFree(call, p, "freed before");
  } else if (allocation->OffsetOf(p) != 0) {
    InvalidFree(call, p, "not the beginning of its allocation");
  } else {
    return allocation;
  }
  return nullptr;
}

cudaError_t AwaitAllDevices(ApiCall& call) {
  cudaError_t error = cudaSuccess;
  for (size_t device = 0; device < call.machine.devices.size(); ++device) {
    const cudaError_t its = call.AwaitDevice(static_cast<int>(device));
    if (error == cudaSuccess) error = its;
  }
  return error;
}

void AddHostMemory(ApiCall& call, void* begin, size_t size,
                   Allocation::Kind kind) {
  auto allocation = std::make_shared<Allocation>();
  allocation->begin = reinterpret_cast<uintptr_t>(begin);
  allocation->size = size;
  allocation->view = static_cast<char*>(begin);
  allocation->kind = kind;
  allocation->device = call.device;
  call.machine.allocations.Add(allocation);
}

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaMalloc(void** p, size_t size) {
  return CallApi("cudaMalloc", [&](ApiCall& call) {
    *p = nullptr;
    if (size == 0) return cudaSuccess;
    Device& device = call.machine.devices[call.device];
    if (size > device.limit - device.used) return cudaErrorMemoryAllocation;
    AllocationPtr allocation = device.memory->Allocate(size);
    if (!allocation) return cudaErrorMemoryAllocation;
    allocation->device = call.device;
    device.used += size;
    call.machine.allocations.Add(allocation);
    *p = reinterpret_cast<void*>(allocation->begin);
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* p) {
  return CallApi("cudaFree", [&](ApiCall& call) {
    if (!p) return cudaSuccess;
    AllocationPtr allocation = FindToFree(call, p, Allocation::Kind::kDevice);
    if (!allocation) return cudaErrorInvalidValue;
    const cudaError_t error = call.AwaitDevice(allocation->device);
    Device& device = call.machine.devices[allocation->device];
    allocation->freed = true;
    allocation->accesses.clear();
    if (allocation->log) allocation->log->freed = true;
    device.memory->Free(*allocation);
    device.used -= allocation->size;
    return error;
  });
}

cudaError_t cudaHostAlloc(void** p, size_t size, unsigned /*flags*/) {
  return CallApi("cudaHostAlloc", [&](ApiCall& call) {
    *p = nullptr;
    if (size == 0) return cudaSuccess;
    void* begin = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) return cudaErrorMemoryAllocation;
    AddHostMemory(call, begin, size, Allocation::Kind::kPinned);
    call.machine.pinned += size;
    *p = begin;
    return cudaSuccess;
  });
}

cudaError_t cudaMallocHost(void** p, size_t size) {
  return cudaHostAlloc(p, size, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* p) {
  return CallApi("cudaFreeHost", [&](ApiCall& call) {
    if (!p) return cudaSuccess;
    AllocationPtr allocation = FindToFree(call, p, Allocation::Kind::kPinned);
    if (!allocation) return cudaErrorInvalidValue;
    const cudaError_t error = AwaitAllDevices(call);
    call.machine.pinned -= allocation->size;
    call.machine.allocations.Remove(*allocation);
    munmap(p, allocation->size);
    return error;
  });
}

cudaError_t cudaHostRegister(void* p, size_t size, unsigned /*flags*/) {
  return CallApi("cudaHostRegister", [&](ApiCall& call) {
    if (!p || size == 0) return cudaErrorInvalidValue;
    if (call.machine.allocations.Find(p)) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
    AddHostMemory(call, p, size, Allocation::Kind::kRegistered);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* p) {
  return CallApi("cudaHostUnregister", [&](ApiCall& call) {
    AllocationPtr allocation = call.machine.allocations.Find(p);
    if (!allocation || allocation->kind != Allocation::Kind::kRegistered ||
        allocation->OffsetOf(p) != 0) {
      return cudaErrorHostMemoryNotRegistered;
    }
    const cudaError_t error = AwaitAllDevices(call);
    call.machine.allocations.Remove(*allocation);
    return error;
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return CallApi("cudaMemGetInfo", [&](ApiCall& call) {
    const Device& device = call.machine.devices[call.device];
    *total = device.limit;
    *free = device.limit > device.used ? device.limit - device.used : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes,
                                     const void* p) {
  return CallApi("cudaPointerGetAttributes", [&](ApiCall& call) {
    memset(attributes, 0, sizeof(*attributes));
    void* const pointer = const_cast<void*>(p);
    const AllocationPtr allocation = call.machine.allocations.Find(p);
    if (!allocation || allocation->freed || !allocation->Contains(p, 1)) {
      attributes->type = cudaMemoryTypeUnregistered;
      attributes->device = cudaInvalidDeviceId;
      attributes->hostPointer = pointer;
      return cudaSuccess;
    }
    attributes->device = allocation->device;
    attributes->devicePointer = pointer;
    attributes->type =
        allocation->on_device() ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    if (!allocation->on_device()) attributes->hostPointer = pointer;
    return cudaSuccess;
  });
}
