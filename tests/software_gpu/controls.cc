#include <string.h>

#include <mutex>
#include <sstream>
#include <utility>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/kernel_launch.h"
#include "tests/software_gpu/machine.h"
#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {
namespace {

std::string Describe(const Allocation& allocation) {
  std::ostringstream text;
  text << allocation.size << " bytes of ";
  switch (allocation.kind) {
    case Allocation::Kind::kDevice:
      text << "device " << allocation.device;
      break;
    case Allocation::Kind::kImported:
      text << "another process, opened on device " << allocation.device;
      break;
    case Allocation::Kind::kPinned:
      text << "pinned memory";
      break;
    case Allocation::Kind::kRegistered:
      text << "registered memory";
      break;
  }
  return text.str();
}

void SetHeld(cudaStream_t handle, bool held) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  if (Stream* stream = machine.Find(handle, CurrentDevice())) {
    stream->held = held;
  }
  machine.scheduler.Wake();
}

}  // namespace

void SetSchedule(const Schedule& schedule) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.scheduler.Set(schedule);
}

void Hold(cudaStream_t stream) { SetHeld(stream, true); }
void Release(cudaStream_t stream) { SetHeld(stream, false); }

void HoldCalls(const std::string& function) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.held_functions.insert(function);
}

void ReleaseCalls() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.held_functions.clear();
  machine.calls_released.notify_all();
}

int HeldCalls() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return machine.held_calls;
}

size_t Pending(cudaStream_t handle) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  const Stream* stream = machine.Find(handle, CurrentDevice());
  return stream ? stream->queue.size() : 0;
}

cudaError_t Launch(cudaStream_t handle, std::string name,
                   std::function<void()> body, std::vector<Range> reads,
                   std::vector<Range> writes) {
  return CallApi("Launch", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    return EnqueueKernel(call, *stream,
                         {std::move(name), std::move(body), std::move(reads),
                          std::move(writes)});
  });
}

void* HostView(const void* p) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  const AllocationPtr allocation = machine.allocations.Find(p);
  if (!allocation || allocation->freed) return nullptr;
  return allocation->view + allocation->OffsetOf(p);
}

void HostReads(const void* p, size_t size) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.HostUses(p, size, /*write=*/false);
}

void HostWrites(const void* p, size_t size) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.HostUses(p, size, /*write=*/true);
}

void FailCall(const std::string& function, int nth, cudaError_t error) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.failures.push_back({function, nth, error});
}

void FailDevice(cudaStream_t handle, cudaError_t error) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  Stream* stream = machine.Find(handle, CurrentDevice());
  if (stream) machine.Enqueue(*stream, "fault")->fault = error;
}

void ClearFailures() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.failures.clear();
  for (Device& device : machine.devices) device.fault = cudaSuccess;
  // Work that has run hands its error on to what is ordered behind it.
  const auto forgive = [](const OperationPtr& last) {
    if (last != nullptr && last->done) last->result = cudaSuccess;
  };
  for (const auto& stream : machine.streams) {
    stream->error = cudaSuccess;
    forgive(stream->last);
  }
  for (const auto& event : machine.events) forgive(event->last);
  TakeLastError();
}

void SetMemoryLimit(int device, size_t bytes) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.devices.at(device).limit = bytes;
}

void SetPeerAccess(bool possible) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.peer_access = possible;
}

std::vector<Finding> TakeFindings() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return std::exchange(machine.findings, {});
}

std::map<uint64_t, std::string> LiveResources() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  std::map<uint64_t, std::string> live;
  for (const AllocationPtr& allocation : machine.allocations.Live()) {
    live[allocation->id] = Describe(*allocation);
  }
  // Numbered beyond all allocations.
  for (size_t i = 0; i < machine.events.size(); ++i) {
    const Event& event = *machine.events[i];
    if (!event.shared || event.destroyed) continue;
    live[uint64_t{1} << 32 | i] = "an event of several processes";
  }
  return live;
}

size_t MemoryUsed(int device) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return machine.devices.at(device).used;
}

size_t PinnedMemoryUsed() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return machine.pinned;
}

std::map<std::string, int> TakeSynchronisingCalls() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return std::exchange(machine.synchronising_calls, {});
}

std::map<std::string, int> TakeCalls() {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  return std::exchange(machine.calls, {});
}

}  // namespace tensorferry::software_gpu

// What the stubs of all libraries do.
extern "C" long software_gpu_stub_called(const char* library,
                                         const char* symbol) {
  using tensorferry::software_gpu::Finding;
  using tensorferry::software_gpu::Machine;
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  machine.Report(Finding::Kind::kStub, std::string(symbol) + " of " + library);
  if (strstr(library, "cudart")) {
    return tensorferry::software_gpu::SetLastError(cudaErrorNotSupported);
  }
  // "Not supported" where the library has such a code, and an error in all.
  return strstr(library, "cupti") ? 26 : 15;
}
