// Devices, versions, errors.

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

constexpr int kVersion = 13020;

bool Exists(const ApiCall& call, int device) {
  return device >= 0 && device < static_cast<int>(call.machine.devices.size());
}

// A device like those of compute capability 9.0, but small.
cudaDeviceProp Properties(const Device& device) {
  cudaDeviceProp properties;
  memset(&properties, 0, sizeof(properties));
  snprintf(properties.name, sizeof(properties.name), "Software GPU %d",
           device.physical);
  properties.uuid = UuidOf(device.physical);
  properties.totalGlobalMem = device.limit;
  properties.major = 9;
  properties.pciBusID = device.physical + 1;
  properties.multiProcessorCount = 4;
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = 1024;
  properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 2147483647;
  properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
  properties.maxThreadsPerMultiProcessor = 2048;
  properties.maxBlocksPerMultiProcessor = 32;
  properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
  properties.sharedMemPerBlock = 49152;
  properties.sharedMemPerBlockOptin = 101376;
  properties.sharedMemPerMultiprocessor = 102400;
  properties.totalConstMem = 65536;
  properties.memPitch = 2147483647;
  properties.textureAlignment = 512;
  properties.l2CacheSize = 1 << 20;
  properties.memoryBusWidth = 128;
  properties.asyncEngineCount = 2;
  properties.concurrentKernels = 1;
  properties.unifiedAddressing = 1;
  properties.canMapHostMemory = 1;
  properties.hostRegisterSupported = 1;
  properties.streamPrioritiesSupported = 1;
  properties.ipcEventSupported = 1;
  return properties;
}

int Attribute(const cudaDeviceProp& properties, cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      return properties.major;
    case cudaDevAttrComputeCapabilityMinor:
      return properties.minor;
    case cudaDevAttrMultiProcessorCount:
      return properties.multiProcessorCount;
    case cudaDevAttrWarpSize:
      return properties.warpSize;
    case cudaDevAttrMaxThreadsPerBlock:
      return properties.maxThreadsPerBlock;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return static_cast<int>(properties.sharedMemPerBlock);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return static_cast<int>(properties.sharedMemPerBlockOptin);
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrHostRegisterSupported:
      return 1;
    default:
      return 0;  // the compute mode: default
  }
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

#define ERROR_TEXT(error, text) \
  { error, #error, text }
constexpr ErrorText kErrors[] = {
    ERROR_TEXT(cudaSuccess, "no error"),
    ERROR_TEXT(cudaErrorInvalidValue, "invalid argument"),
    ERROR_TEXT(cudaErrorMemoryAllocation, "out of memory"),
    ERROR_TEXT(cudaErrorInitializationError, "initialization error"),
    ERROR_TEXT(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR_TEXT(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR_TEXT(cudaErrorECCUncorrectable, "uncorrectable ECC error"),
    ERROR_TEXT(cudaErrorMapBufferObjectFailed, "mapping of memory failed"),
    ERROR_TEXT(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR_TEXT(cudaErrorNotReady, "device not ready"),
    ERROR_TEXT(cudaErrorIllegalAddress, "an illegal memory access"),
    ERROR_TEXT(cudaErrorPeerAccessAlreadyEnabled, "peer access is enabled"),
    ERROR_TEXT(cudaErrorPeerAccessUnsupported, "no peer access"),
    ERROR_TEXT(cudaErrorContextIsDestroyed, "context is destroyed"),
    ERROR_TEXT(cudaErrorHostMemoryAlreadyRegistered, "memory is registered"),
    ERROR_TEXT(cudaErrorHostMemoryNotRegistered, "memory is not registered"),
    ERROR_TEXT(cudaErrorHardwareStackError, "hardware stack error"),
    ERROR_TEXT(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR_TEXT(cudaErrorNotPermitted, "operation not permitted"),
    ERROR_TEXT(cudaErrorNotSupported, "not modelled by the software GPU"),
};
#undef ERROR_TEXT

const ErrorText& TextOf(cudaError_t error) {
  static constexpr ErrorText kUnknown = {cudaErrorUnknown, "cudaErrorUnknown",
                                         "unknown error"};
  for (const ErrorText& each : kErrors) {
    if (each.error == error) return each;
  }
  return kUnknown;
}

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  return CallApi("cudaGetDeviceCount", [&](ApiCall& call) {
    *count = static_cast<int>(call.machine.devices.size());
    return cudaSuccess;
  });
}

// Unlike other calls these two work on a device that has failed.
cudaError_t cudaGetDevice(int* device) {
  *device = CurrentDevice();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (Machine::IsFork()) return SetLastError(cudaErrorInitializationError);
  const auto& devices = Machine::Get().devices;
  if (device < 0 || device >= static_cast<int>(devices.size())) {
    return SetLastError(cudaErrorInvalidDevice);
  }
  SetCurrentDevice(device);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return CallApi("cudaGetDeviceProperties", [&](ApiCall& call) {
    if (!Exists(call, device)) return cudaErrorInvalidDevice;
    *properties = Properties(call.machine.devices[device]);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int device) {
  return CallApi("cudaDeviceGetAttribute", [&](ApiCall& call) {
    if (!Exists(call, device)) return cudaErrorInvalidDevice;
    *value = Attribute(Properties(call.machine.devices[device]), attribute);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  return CallApi("cudaDeviceGetPCIBusId", [&](ApiCall& call) {
    if (!Exists(call, device)) return cudaErrorInvalidDevice;
    snprintf(text, length, "0000:%02x:00.0",
             call.machine.devices[device].physical + 1);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* possible, int device, int peer) {
  return CallApi("cudaDeviceCanAccessPeer", [&](ApiCall& call) {
    if (!Exists(call, device) || !Exists(call, peer)) {
      return cudaErrorInvalidDevice;
    }
    *possible = device != peer && call.machine.peer_access;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned /*flags*/) {
  return CallApi("cudaDeviceEnablePeerAccess", [&](ApiCall& call) {
    if (!Exists(call, peer) || peer == call.device) {
      return cudaErrorInvalidDevice;
    }
    if (!call.machine.peer_access) return cudaErrorPeerAccessUnsupported;
    const bool is_new =
        call.machine.peers_enabled.emplace(call.device, peer).second;
    return is_new ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return CallApi("cudaDeviceSynchronize",
                 [](ApiCall& call) { return call.AwaitDevice(call.device); });
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return TakeLastError(); }
cudaError_t cudaPeekAtLastError() { return LastError(); }
const char* cudaGetErrorName(cudaError_t error) { return TextOf(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return TextOf(error).text; }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }
