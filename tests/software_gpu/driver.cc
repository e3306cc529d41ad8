// libcuda.so.1: what c10 and tensorpipe ask of the driver, on top of the
// runtime. What is missing here they are told is not supported.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <string.h>

#include <mutex>

#include "tests/software_gpu/machine.h"

// cuda.h maps these names to newer versions; programs look up the plain ones.
#undef cuDeviceGetUuid
#undef cuMemGetAddressRange

namespace {

using tensorferry::software_gpu::AllocationPtr;
using tensorferry::software_gpu::Machine;

thread_local CUcontext current_context = nullptr;

CUresult ToDriver(cudaError_t error) { return static_cast<CUresult>(error); }

// The live allocation of a device pointer; null: there is none.
AllocationPtr Find(CUdeviceptr p) {
  Machine& machine = Machine::Get();
  std::lock_guard<std::mutex> lock(machine.mutex);
  AllocationPtr allocation =
      machine.allocations.Find(reinterpret_cast<const void*>(p));
  return allocation && !allocation->freed ? allocation : nullptr;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned) {
  int count = 0;
  return ToDriver(cudaGetDeviceCount(&count));
}

CUresult cuDriverGetVersion(int* version) {
  return ToDriver(cudaDriverGetVersion(version));
}

CUresult cuDeviceGetCount(int* count) {
  return ToDriver(cudaGetDeviceCount(count));
}

CUresult cuDeviceGet(CUdevice* device, int index) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (index < 0 || index >= count) return CUDA_ERROR_INVALID_DEVICE;
  *device = index;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) memcpy(uuid, &properties.uuid, sizeof(*uuid));
  return ToDriver(error);
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute,
                              CUdevice device) {
  return ToDriver(cudaDeviceGetAttribute(
      value, static_cast<cudaDeviceAttr>(attribute), device));
}

CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = current_context;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  current_context = context;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = cudaGetErrorName(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* begin, size_t* size,
                                 CUdeviceptr p) {
  const AllocationPtr allocation = Find(p);
  if (!allocation) return CUDA_ERROR_NOT_FOUND;
  if (begin) *begin = allocation->begin;
  if (size) *size = allocation->size;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute,
                               CUdeviceptr p) {
  const AllocationPtr allocation = Find(p);
  if (!allocation) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      *static_cast<int*>(value) = allocation->device;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      *static_cast<unsigned*>(value) =
          allocation->on_device() ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      *static_cast<uint64_t*>(value) = allocation->id;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

}  // extern "C"
