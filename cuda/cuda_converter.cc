#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <tensorpipe/common/cuda_buffer.h>

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "cuda/devices.h"
#include "serialization/check_range.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "serialization/torch_errors.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;

absl::Status Failed(absl::string_view what, c10::Device device,
                    cudaError_t error) {
  cudaGetLastError();  // told here, and to nobody else
  return absl::Status(
      error == cudaErrorMemoryAllocation
          ? absl::StatusCode::kResourceExhausted
          : absl::StatusCode::kFailedPrecondition,
      absl::StrCat(what, " on ", device.str(), ": ", cudaGetErrorName(error),
                   " (", cudaGetErrorString(error), ")"));
}

// Whether the stream, of the current device, can still be used: a device that
// failed stays so until the process ends, and tensorpipe would throw.
absl::Status CheckUsable(c10::Stream stream) {
  const cudaError_t error = cudaStreamQuery(CUDAStream(stream));
  if (error == cudaSuccess) return absl::OkStatus();
  if (error != cudaErrorNotReady) {
    return Failed("a stream cannot be used", stream.device(), error);
  }
  cudaGetLastError();
  return absl::OkStatus();
}

// From so many bytes on NVML is asked what is free.
constexpr uint64_t kMuchMemory = uint64_t{64} << 20;

// What libtorch's allocator keeps of the device, and may hand out.
uint64_t KeptBytes(c10::Device device) {
  using c10::CachingDeviceAllocator::StatType;
  constexpr auto kAll = static_cast<size_t>(StatType::AGGREGATE);
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
  return stats.reserved_bytes[kAll].current -
         stats.allocated_bytes[kAll].current;
}

// A peer's word is not worth a call of CUDA's, and a buffer that is too large
// gets none. Each is looked at alone: of several that only together are too
// large, the first are allocated. Of other allocators nothing is known:
// cudaMallocAsync's asks CUDA what it keeps, and a user's may throw when asked,
// and have more than the device.
//
// `is_up`: libtorch's is initialised. It says so of itself when it has begun,
// and must not be asked anything until it has ended.
absl::Status CheckRoom(uint64_t nbytes, c10::Device device, bool is_up) {
  if (c10::cuda::CUDACachingAllocator::name() != "native") {
    return absl::OkStatus();
  }
  const auto refused = [&](uint64_t has, absl::string_view of_it) {
    return absl::ResourceExhaustedError(absl::StrCat(
        nbytes, " bytes on ", device.str(), ", which has ", has, of_it));
  };
  const uint64_t total = CudaTotalBytes(device.index());
  if (total != 0 && nbytes > total) return refused(total, " in all");
  if (nbytes < kMuchMemory || !is_up) return absl::OkStatus();
  const uint64_t free = CudaFreeBytes(device.index());
  if (free == 0) return absl::OkStatus();
  const uint64_t room = free + KeptBytes(device);
  return nbytes > room ? refused(room, " free") : absl::OkStatus();
}

// Runs `step` where libtorch's exceptions end, with `device` as the current
// one: the handle of a default stream means its, and CUDA refuses all calls
// while that is one that failed.
template <class Step>
auto Guarded(absl::string_view what, c10::Device device, Step step) {
  return CatchTorchErrors(
      absl::StatusCode::kFailedPrecondition,
      [&] { return absl::StrCat(what, " on ", device.str()); },
      [&]() -> decltype(step()) {
        try {
          const c10::cuda::CUDAGuard guard(device);
          return step();
        } catch (const c10::AcceleratorError& error) {
          return Failed(what, device,
                        static_cast<cudaError_t>(error.get_error_code()));
        }
      });
}

void CUDART_CB OnReached(cudaStream_t, cudaError_t error, void* argument) {
  std::unique_ptr<std::pair<DoneStatus, c10::Device>> waiting(
      static_cast<std::pair<DoneStatus, c10::Device>*>(argument));
  absl::Status status;
  if (error != cudaSuccess) {
    status = absl::FailedPreconditionError(absl::StrCat(
        "work on ", waiting->second.str(), " failed: ", cudaGetErrorName(error),
        " (", cudaGetErrorString(error), ")"));
  }
  std::move(waiting->first)(std::move(status));
}

// Pinned memory that work of a stream uses, also when nobody else does any
// more. libtorch's allocator would keep an event for that, ask for those of all
// devices when memory of any is allocated next, throw for each that is of a
// failed one, and lose its memory.
struct UsedPinned {
  c10::DataPtr memory;
  c10::Stream stream;
};

void CUDART_CB OnUsed(cudaStream_t, cudaError_t, void* used) {
  delete static_cast<UsedPinned*>(used);
}

void DropOnceUsed(void* context) {
  auto* const used = static_cast<UsedPinned*>(context);
  const auto guarded = [used](auto step) {
    return Guarded("giving back pinned memory", used->stream.device(), step);
  };
  const absl::Status told = guarded([&]() -> absl::Status {
    const cudaError_t error = cudaStreamAddCallback(CUDAStream(used->stream),
                                                    &OnUsed, used, /*flags=*/0);
    if (error == cudaSuccess) return absl::OkStatus();
    return Failed("giving back pinned memory", used->stream.device(), error);
  });
  if (told.ok()) return;
  // A device that has failed uses nothing. What another one may use is lost.
  const absl::Status usable =
      guarded([used] { return CheckUsable(used->stream); });
  if (!usable.ok()) delete used;
}

c10::DataPtr UsedOn(c10::Stream stream, c10::DataPtr memory) {
  void* const data = memory.get();
  return {data, new UsedPinned{std::move(memory), stream}, &DropOnceUsed,
          c10::Device(c10::kCPU)};
}

class CudaConverter : public DeviceConverter {
 public:
  // The caching allocator gives the memory to nobody before `carrying` has
  // come so far; what is not its own, the storage's owner keeps.
  absl::StatusOr<SendBuffer> PrepareToSend(
      const c10::Storage& storage, ByteRange range,
      c10::Stream carrying) const override {
    FERRY_RETURN_IF_ERROR(CheckRange(storage, range));
    return Guarded(
        "sending", carrying.device(), [&]() -> absl::StatusOr<SendBuffer> {
          FERRY_RETURN_IF_ERROR(CheckUsable(carrying));
          SendBuffer buffer;
          buffer.nbytes = range.nbytes;
          buffer.owner_storage = storage;
          if (range.nbytes == 0) return buffer;
          c10::cuda::CUDACachingAllocator::recordStream(storage.data_ptr(),
                                                        CUDAStream(carrying));
          auto* begin = static_cast<const std::byte*>(storage.data());
          buffer.data = const_cast<std::byte*>(begin) + range.begin;
          return buffer;
        });
  }

  absl::StatusOr<c10::DataPtr> AllocateToReceive(uint64_t nbytes,
                                                 c10::Device device,
                                                 c10::Stream receiving,
                                                 BufferSource*) const override {
    if (receiving.device() != device) {
      return absl::InvalidArgumentError(absl::StrCat("memory on ", device.str(),
                                                     " for a stream of ",
                                                     receiving.device().str()));
    }
    FERRY_RETURN_IF_ERROR(CheckRoom(nbytes, device, allocator_is_up_));
    return Guarded(
        absl::StrCat(nbytes, " bytes"), device,
        [&]() -> absl::StatusOr<c10::DataPtr> {
          FERRY_RETURN_IF_ERROR(CheckUsable(receiving));
          // Nobody may have used CUDA through libtorch before.
          at::globalContext().lazyInitDevice(c10::kCUDA);
          allocator_is_up_ = true;
          const c10::cuda::CUDAStreamGuard guard{CUDAStream(receiving)};
          return c10::cuda::CUDACachingAllocator::get()->allocate(nbytes);
        });
  }

  absl::Status Order(c10::Stream earlier, c10::Stream later) const override {
    if (earlier == later) return absl::OkStatus();
    return Guarded(absl::StrCat("work after that of ", earlier.device().str()),
                   later.device(), [&]() -> absl::Status {
                     c10::Event event(c10::kCUDA);
                     event.record(earlier);
                     event.block(later);
                     return absl::OkStatus();
                   });
  }

  // cudaLaunchHostFunc would not be called when the device has failed.
  void WhenReached(c10::Stream stream, DoneStatus reached) const override {
    auto waiting = std::make_unique<std::pair<DoneStatus, c10::Device>>(
        std::move(reached), stream.device());
    absl::Status status =
        Guarded("waiting for a stream", stream.device(), [&]() -> absl::Status {
          const cudaError_t error = cudaStreamAddCallback(
              CUDAStream(stream), &OnReached, waiting.get(), /*flags=*/0);
          if (error != cudaSuccess) {
            return Failed("waiting for a stream", stream.device(), error);
          }
          waiting.release();  // OnReached's
          return absl::OkStatus();
        });
    if (!status.ok()) std::move(waiting->first)(std::move(status));
  }

  absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte* data,
                                          uint64_t nbytes,
                                          c10::Stream stream) const override {
    if (nbytes == 0) return c10::DataPtr(nullptr, c10::Device(c10::kCPU));
    return Guarded(
        absl::StrCat(nbytes, " bytes of pinned memory for a copy"),
        stream.device(), [&]() -> absl::StatusOr<c10::DataPtr> {
          const c10::cuda::CUDAStreamGuard guard{CUDAStream(stream)};
          c10::DataPtr copy = UsedOn(
              stream, at::getHostAllocator(c10::kCUDA)->allocate(nbytes));
          const cudaError_t error =
              cudaMemcpyAsync(copy.get(), data, nbytes, cudaMemcpyDeviceToHost,
                              CUDAStream(stream));
          if (error != cudaSuccess) {
            return Failed("copying to the host", stream.device(), error);
          }
          return copy;
        });
  }

  absl::StatusOr<c10::DataPtr> HostMemory(uint64_t nbytes,
                                          c10::Device device) const override {
    if (nbytes == 0) return c10::DataPtr(nullptr, c10::Device(c10::kCPU));
    return Guarded(absl::StrCat(nbytes, " bytes of pinned memory for a copy"),
                   device, [&]() -> absl::StatusOr<c10::DataPtr> {
                     return at::getHostAllocator(c10::kCUDA)->allocate(nbytes);
                   });
  }

  absl::Status CopyFromHost(c10::DataPtr from, uint64_t nbytes, std::byte* data,
                            c10::Stream stream) const override {
    if (nbytes == 0) return absl::OkStatus();
    return Guarded(
        "copying from the host", stream.device(), [&]() -> absl::Status {
          FERRY_RETURN_IF_ERROR(CheckUsable(stream));
          from = UsedOn(stream, std::move(from));
          const cudaError_t error =
              cudaMemcpyAsync(data, from.get(), nbytes, cudaMemcpyHostToDevice,
                              CUDAStream(stream));
          if (error != cudaSuccess) {
            return Failed("copying from the host", stream.device(), error);
          }
          return absl::OkStatus();
        });
  }

  bool CanPack() const override { return true; }

  tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                   c10::Stream stream) const override {
    tensorpipe::CudaBuffer buffer;
    buffer.ptr = data;
    buffer.stream = CUDAStream(stream);
    return buffer;
  }

  std::vector<DeviceInfo> Devices() const override { return CudaDevices(); }

 private:
  mutable std::atomic<bool> allocator_is_up_ = false;
};

FERRY_REGISTER_CONVERTER(CUDA, CudaConverter);

}  // namespace
}  // namespace tensorferry
