// libnvidia-ml.so.1: what c10 and tensorpipe ask of NVML, which sees all
// devices of the host, whatever CUDA_VISIBLE_DEVICES says.

#include <stdint.h>
#include <stdio.h>

#include <mutex>
#include <string>

#include "tests/software_gpu/machine.h"

namespace {

using tensorferry::software_gpu::Device;
using tensorferry::software_gpu::Machine;
using tensorferry::software_gpu::UuidText;

// nvmlReturn_t; there is no nvml.h in the wheels that are fetched.
enum Result {
  kSuccess = 0,
  kInvalidArgument = 2,
  kNotSupported = 3,
  kNotFound = 6,
};

// nvmlMemory_t.
struct Memory {
  unsigned long long total, free, used;
};

// nvmlDevice_t: the device's number, plus one.
using Handle = intptr_t;

int DeviceCount() { return Machine::Get().physical_devices; }
int IndexOf(Handle device) { return static_cast<int>(device) - 1; }

}  // namespace

extern "C" {

int nvmlInit_v2() { return kSuccess; }
int nvmlShutdown() { return kSuccess; }
const char* nvmlErrorString(int) { return "error of NVML"; }

int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  cudaDriverGetVersion(version);
  return kSuccess;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = DeviceCount();
  return kSuccess;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle* device) {
  if (static_cast<int>(index) >= DeviceCount()) return kInvalidArgument;
  *device = index + 1;
  return kSuccess;
}

int nvmlDeviceGetUUID(Handle device, char* text, unsigned length) {
  snprintf(text, length, "%s", UuidText(IndexOf(device)).c_str());
  return kSuccess;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, Handle* device) {
  for (int index = 0; index < DeviceCount(); ++index) {
    if (UuidText(index) != uuid) continue;
    *device = index + 1;
    return kSuccess;
  }
  return kNotFound;
}

int nvmlDeviceGetMemoryInfo(Handle handle, Memory* memory) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  for (const Device& device : machine.devices) {
    if (device.physical != IndexOf(handle)) continue;
    memory->total = device.limit;
    memory->used = device.used;
    memory->free = device.limit - device.used;
    return kSuccess;
  }
  return kNotSupported;  // nothing is known of devices that are not visible
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* text, Handle* device) {
  unsigned domain = 0, bus = 0;
  const bool valid = sscanf(text, "%x:%x", &domain, &bus) == 2 && bus > 0;
  if (!valid || static_cast<int>(bus) > DeviceCount()) return kNotFound;
  *device = bus;
  return kSuccess;
}

int nvmlDeviceGetP2PStatus(Handle, Handle, int, int* status) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  *status = machine.peer_access ? 0 : 1;
  return kSuccess;
}

int nvmlDeviceGetComputeRunningProcesses(Handle, unsigned* count, void*) {
  *count = 0;
  return kSuccess;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(Handle, unsigned, int*) {
  return kNotSupported;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(Handle, unsigned, void*) {
  return kNotSupported;
}

int nvmlDeviceGetGpuFabricInfoV(Handle, void*) { return kNotSupported; }

}  // extern "C"
