// Memory and events that another process opens.

#include <cuda_runtime_api.h>
#include <string.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

constexpr uint32_t kMemoryMark = 0x67707501;
constexpr uint32_t kEventMark = 0x67707502;

// What is in CUDA's handles. They come from peers, so they may be anything.
struct MemoryHandle {
  uint32_t mark;
  pid_t process;
  int memory_fd;
  int shared_fd;
  uint64_t offset;
  uint64_t size;
  uint64_t log_offset;
};
struct EventHandle {
  uint32_t mark;
  pid_t process;
  int shared_fd;
  uint64_t offset;
};
static_assert(sizeof(MemoryHandle) <= sizeof(cudaIpcMemHandle_t));
static_assert(sizeof(EventHandle) <= sizeof(cudaIpcEventHandle_t));

template <class Shared>
std::shared_ptr<Shared> MapShared(pid_t process, int fd, uint64_t offset) {
  std::shared_ptr<char> mapping =
      MapRemote(process, fd, offset, sizeof(Shared));
  // The same bytes, and the mapping lives as long as it is used.
  return {mapping, reinterpret_cast<Shared*>(mapping.get())};
}

// From now on all uses are in the shared log, so that the other process sees
// them.
bool Share(Machine& machine, Allocation& allocation) {
  if (allocation.log) return true;
  allocation.log = machine.NewSharedLog(allocation.log_offset);
  if (!allocation.log) return false;
  Store(allocation.accesses, *allocation.log);
  allocation.log->hosts.Set(machine.host);
  return true;
}

AllocationPtr FindOpened(Machine& machine, const std::string& origin) {
  for (const AllocationPtr& allocation : machine.allocations.Live()) {
    if (allocation->origin == origin) return allocation;
  }
  return nullptr;
}

AllocationPtr Import(const MemoryHandle& handle) {
  auto allocation = std::make_shared<Allocation>();
  allocation->mapping =
      MapRemote(handle.process, handle.memory_fd, handle.offset, handle.size);
  allocation->log =
      MapShared<SharedLog>(handle.process, handle.shared_fd, handle.log_offset);
  if (!allocation->mapping || !allocation->log) return nullptr;
  allocation->kind = Allocation::Kind::kImported;
  allocation->view = allocation->mapping.get();
  allocation->size = handle.size;
  allocation->begin = ReserveAddresses(handle.size + kPageSize);
  return allocation;
}

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* out, void* p) {
  return CallApi("cudaIpcGetMemHandle", [&](ApiCall& call) {
    Machine& machine = call.machine;
    const AllocationPtr allocation = machine.allocations.Find(p);
    if (!allocation || allocation->freed ||
        allocation->kind != Allocation::Kind::kDevice) {
      return cudaErrorInvalidValue;
    }
    if (!Share(machine, *allocation)) return cudaErrorMemoryAllocation;
    const DeviceMemory& memory = *machine.devices[allocation->device].memory;
    const MemoryHandle handle = {.mark = kMemoryMark,
                                 .process = getpid(),
                                 .memory_fd = memory.file().fd(),
                                 .shared_fd = machine.shared.fd(),
                                 .offset = memory.OffsetOf(*allocation),
                                 .size = allocation->size,
                                 .log_offset = allocation->log_offset};
    memset(out, 0, sizeof(*out));
    memcpy(out, &handle, sizeof(handle));
    return cudaSuccess;
  });
}

cudaError_t cudaIpcOpenMemHandle(void** p, cudaIpcMemHandle_t bytes,
                                 unsigned /*flags*/) {
  return CallApi("cudaIpcOpenMemHandle", [&](ApiCall& call) {
    MemoryHandle handle;
    memcpy(&handle, &bytes, sizeof(handle));
    if (handle.mark != kMemoryMark || handle.process == getpid()) {
      return cudaErrorInvalidResourceHandle;
    }
    const std::string origin = std::to_string(handle.process) + "/" +
                               std::to_string(handle.log_offset);
    AllocationPtr allocation = FindOpened(call.machine, origin);
    if (!allocation) {
      allocation = Import(handle);
      if (!allocation) return cudaErrorMapBufferObjectFailed;
      allocation->origin = origin;
      allocation->device = call.device;
      call.machine.allocations.Add(allocation);
    }
    ++allocation->opened;
    *p = reinterpret_cast<void*>(allocation->begin);
    return cudaSuccess;
  });
}

cudaError_t cudaIpcCloseMemHandle(void* p) {
  return CallApi("cudaIpcCloseMemHandle", [&](ApiCall& call) {
    const AllocationPtr allocation = call.machine.allocations.Find(p);
    if (!allocation || allocation->freed ||
        allocation->kind != Allocation::Kind::kImported) {
      call.machine.Report(Finding::Kind::kInvalidFree,
                          "cudaIpcCloseMemHandle of memory that is not open");
      return cudaErrorInvalidValue;
    }
    if (--allocation->opened > 0) return cudaSuccess;
    const cudaError_t error = call.AwaitDevice(allocation->device);
    allocation->freed = true;
    allocation->mapping = nullptr;
    allocation->log = nullptr;
    return error;
  });
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* out,
                                  cudaEvent_t event_handle) {
  return CallApi("cudaIpcGetEventHandle", [&](ApiCall& call) {
    const Event* event = call.machine.Find(event_handle);
    if (!event || !event->shared || event->opened) {
      return cudaErrorInvalidResourceHandle;
    }
    const EventHandle handle = {.mark = kEventMark,
                                .process = getpid(),
                                .shared_fd = call.machine.shared.fd(),
                                .offset = event->shared_offset};
    memset(out, 0, sizeof(*out));
    memcpy(out, &handle, sizeof(handle));
    return cudaSuccess;
  });
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* out,
                                   cudaIpcEventHandle_t bytes) {
  return CallApi("cudaIpcOpenEventHandle", [&](ApiCall& call) {
    EventHandle handle;
    memcpy(&handle, &bytes, sizeof(handle));
    if (handle.mark != kEventMark || handle.process == getpid()) {
      return cudaErrorInvalidResourceHandle;
    }
    std::shared_ptr<SharedEvent> shared =
        MapShared<SharedEvent>(handle.process, handle.shared_fd, handle.offset);
    if (!shared) return cudaErrorMapBufferObjectFailed;
    Event* event = call.machine.NewEvent(
        call.device, cudaEventDisableTiming | cudaEventInterprocess);
    event->shared = std::move(shared);
    event->opened = true;
    *out = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
  });
}
