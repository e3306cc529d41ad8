#include "cuda/ipc_outbox.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
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

// Runs `step` with `device` as the current one.
template <class Step>
absl::Status OnDevice(int device, Step step) {
  int before = 0;
  FERRY_RETURN_IF_ERROR(ToStatus(cudaGetDevice(&before), "a device"));
  FERRY_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device), "a device"));
  absl::Cleanup restore = [before] { cudaSetDevice(before); };
  return step();
}

absl::Status CheckSize(void* memory) {
  const uint64_t size = SizeOf(memory);
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

// On the current device. The memory stays open, the events do not.
absl::StatusOr<void*> OpenHere(const IpcOutbox& outbox) {
  void* memory = nullptr;
  FERRY_RETURN_IF_ERROR(ToStatus(
      cudaIpcOpenMemHandle(&memory, HandleOf<cudaIpcMemHandle_t>(outbox.memory),
                           cudaIpcMemLazyEnablePeerAccess),
      "memory"));
  absl::Cleanup close = [memory] { cudaIpcCloseMemHandle(memory); };
  FERRY_RETURN_IF_ERROR(CheckSize(memory));
  for (const std::string& event : outbox.events) {
    FERRY_RETURN_IF_ERROR(TryEvent(event));
  }
  std::move(close).Cancel();
  return memory;
}

}  // namespace

OutboxesSeen::~OutboxesSeen() {
  absl::MutexLock lock(&mu_);
  for (const auto& [key, seen] : seen_) {
    for (const auto& [device, memory] : seen.memory) {
      OnDevice(device, [memory = memory] {
        return ToStatus(cudaIpcCloseMemHandle(memory), "memory");
      }).IgnoreError();
    }
  }
}

absl::Status OutboxesSeen::Check(int64_t sender, const IpcChunk& chunk,
                                 int device) {
  const IpcOutbox& outbox = *chunk.outbox;
  absl::MutexLock lock(&mu_);
  const auto name = names_.find(sender);
  if (name != names_.end() && name->second != outbox.process) {
    return absl::PermissionDeniedError(
        absl::StrCat("cuda_ipc: process ", sender, " goes by two names"));
  }
  const auto seen = seen_.find({sender, chunk.device});
  const bool known = seen != seen_.end();
  if (known && !(seen->second.outbox == outbox)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cuda_ipc: process ", sender,
        " has another device memory than when it was first met; it cannot be "
        "told from an earlier one"));
  }
  if (known && seen->second.memory.contains(device)) return absl::OkStatus();
  void* memory = nullptr;
  FERRY_RETURN_IF_ERROR(OnDevice(device, [&]() -> absl::Status {
    FERRY_ASSIGN_OR_RETURN(memory, OpenHere(outbox));
    return absl::OkStatus();
  }));
  names_.try_emplace(sender, outbox.process);
  Seen& entry = seen_[{sender, chunk.device}];
  entry.outbox = outbox;
  entry.memory[device] = memory;
  return absl::OkStatus();
}

}  // namespace tensorferry
