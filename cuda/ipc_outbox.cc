#include "cuda/ipc_outbox.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr uint64_t kOutboxBytes = IpcOutbox::kSlots * IpcOutbox::kSlotBytes;

static_assert(sizeof(cudaIpcMemHandle_t) == IpcOutbox::kHandleBytes);
static_assert(sizeof(cudaIpcEventHandle_t) == IpcOutbox::kHandleBytes);

template <class Handle>
Handle HandleOf(const std::string& bytes) {
  Handle handle;
  std::memcpy(&handle, bytes.data(), sizeof(handle));
  return handle;
}

absl::Status ToStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // forgotten, so that nobody else meets it
  return absl::DataLossError(absl::StrCat(
      "cuda_ipc: ", what, " of the peer: ", cudaGetErrorName(error), ", ",
      cudaGetErrorString(error)));
}

// Of the allocation that `memory` is in; 0: the driver does not say.
uint64_t SizeOf(void* memory) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function, 12000,
                                       cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return 0;
  }
  using Signature = CUresult(CUdeviceptr*, size_t*, CUdeviceptr);
  CUdeviceptr begin = 0;
  size_t size = 0;
  const CUresult result = reinterpret_cast<Signature*>(function)(
      &begin, &size, reinterpret_cast<CUdeviceptr>(memory));
  return result == CUDA_SUCCESS ? size : 0;
}

absl::Status TryMemory(const std::string& handle) {
  void* memory = nullptr;
  FERRY_RETURN_IF_ERROR(ToStatus(
      cudaIpcOpenMemHandle(&memory, HandleOf<cudaIpcMemHandle_t>(handle),
                           cudaIpcMemLazyEnablePeerAccess),
      "memory"));
  const uint64_t size = SizeOf(memory);
  FERRY_RETURN_IF_ERROR(ToStatus(cudaIpcCloseMemHandle(memory), "memory"));
  if (size >= kOutboxBytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("cuda_ipc: a peer's memory of ", size,
                                          " bytes, want ", kOutboxBytes));
}

absl::Status TryEvent(const std::string& handle) {
  cudaEvent_t event = nullptr;
  FERRY_RETURN_IF_ERROR(ToStatus(
      cudaIpcOpenEventHandle(&event, HandleOf<cudaIpcEventHandle_t>(handle)),
      "an event"));
  return ToStatus(cudaEventDestroy(event), "an event");
}

}  // namespace

absl::Status TryOutbox(const IpcOutbox& outbox, int device) {
  int before = 0;
  FERRY_RETURN_IF_ERROR(ToStatus(cudaGetDevice(&before), "a device"));
  FERRY_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "a device"));
  absl::Cleanup restore = [before] { cudaSetDevice(before); };
  FERRY_RETURN_IF_ERROR(TryMemory(outbox.memory));
  for (const std::string& event : outbox.events) {
    FERRY_RETURN_IF_ERROR(TryEvent(event));
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
