// Copies and fills.

#include <cuda_runtime_api.h>
#include <string.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

bool IsOnDevice(const Use& use) {
  return use.allocation && use.allocation->on_device();
}

// Whether `kind` says what the pointers are.
bool Fits(cudaMemcpyKind kind, bool to_device, bool from_device) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

char* Bytes(const Use& use) {
  if (!use.allocation) return static_cast<char*>(const_cast<void*>(use.begin));
  return use.allocation->view + use.allocation->OffsetOf(use.begin);
}

Use UseOf(ApiCall& call, const void* p, size_t size, bool write) {
  return {call.machine.allocations.Find(p), p, size, write};
}

cudaError_t Copy(ApiCall& call, void* to, const void* from, size_t size,
                 cudaMemcpyKind kind, cudaStream_t handle, bool wait) {
  Stream* stream = call.machine.Find(handle, call.device);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (size == 0) return cudaSuccess;
  const Use target = UseOf(call, to, size, /*write=*/true);
  const Use source = UseOf(call, from, size, /*write=*/false);
  if (!call.machine.CheckRange(call.function, target) ||
      !call.machine.CheckRange(call.function, source)) {
    return cudaErrorInvalidValue;
  }
  if (!Fits(kind, IsOnDevice(target), IsOnDevice(source))) {
    return cudaErrorInvalidMemcpyDirection;
  }
  OperationPtr copy =
      call.machine.Enqueue(*stream, call.function, {source, target});
  char* const bytes_to = Bytes(target);
  const char* const bytes_from = Bytes(source);
  if (!source.allocation && !wait) {
    // Ordinary memory is read before the call returns.
    auto staged =
        std::make_shared<std::vector<char>>(bytes_from, bytes_from + size);
    copy->run = [=] { memcpy(bytes_to, staged->data(), size); };
  } else {
    copy->run = [=] { memmove(bytes_to, bytes_from, size); };
  }
  // Ordinary memory is written before the call returns.
  if (!wait && target.allocation) return cudaSuccess;
  call.Await(copy);
  return copy->result;
}

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  return CallApi("cudaMemcpyAsync", [&](ApiCall& call) {
    return Copy(call, to, from, size, kind, stream, /*wait=*/false);
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size,
                       cudaMemcpyKind kind) {
  return CallApi("cudaMemcpy", [&](ApiCall& call) {
    return Copy(call, to, from, size, kind, nullptr, /*wait=*/true);
  });
}

cudaError_t cudaMemcpyPeerAsync(void* to, int /*to_device*/, const void* from,
                                int /*from_device*/, size_t size,
                                cudaStream_t stream) {
  return CallApi("cudaMemcpyPeerAsync", [&](ApiCall& call) {
    return Copy(call, to, from, size, cudaMemcpyDeviceToDevice, stream,
                /*wait=*/false);
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t size,
                            cudaStream_t handle) {
  return CallApi("cudaMemsetAsync", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const Use target = UseOf(call, to, size, /*write=*/true);
    if (!target.allocation || !call.machine.CheckRange(call.function, target)) {
      return cudaErrorInvalidValue;
    }
    OperationPtr fill = call.machine.Enqueue(*stream, call.function, {target});
    fill->run = [bytes = Bytes(target), value, size] {
      memset(bytes, value, size);
    };
    return cudaSuccess;
  });
}

cudaError_t cudaMemset(void* to, int value, size_t size) {
  return cudaMemsetAsync(to, value, size, nullptr);
}
