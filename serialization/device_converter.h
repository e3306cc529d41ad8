#ifndef TENSORFERRY_SERIALIZATION_DEVICE_CONVERTER_H_
#define TENSORFERRY_SERIALIZATION_DEVICE_CONVERTER_H_

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>
#include <tensorpipe/common/buffer.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/device_id.h"
#include "base/done.h"

namespace tensorferry {

// Bytes [begin, begin + nbytes) of a storage.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t nbytes = 0;
};

// A range of a storage that is ready to be read by the transport. `owner`
// keeps `data` valid for as long as it lives: the storage itself, or a copy
// where nobody owns the storage.
struct SendBuffer {
  std::byte* data = nullptr;
  uint64_t nbytes = 0;
  c10::DataPtr owner_data;     // a copy, if one was made
  c10::Storage owner_storage;  // else the storage
};

// Where received bytes may be put, other than a plain allocation.
class BufferSource {
 public:
  virtual ~BufferSource() = default;
  // Memory of the CPU, aligned to `align` (a power of two); the deleter gives
  // it back. RESOURCE_EXHAUSTED: none left.
  virtual absl::StatusOr<c10::DataPtr> Take(size_t nbytes, size_t align) = 0;
};

// What a device type has to know to take part: makes a storage ready to be
// sent, makes memory to receive into, and keeps the order between streams. The
// virtual functions with a body are those of a type whose work is over when the
// call returns. Implementations are stateless or thread-safe; any thread may
// call. Nothing here throws: what libtorch throws is caught and returned as a
// status.
//
// Source of the idea: TensorpipeDeviceTypeConverter in PyTorch's
// torch/csrc/distributed/rpc/tensorpipe_utils.h.
class DeviceConverter {
 public:
  virtual ~DeviceConverter() = default;

  // Makes `range` of `storage` readable by the transport in the order of
  // `carrying`, the stream that the transfer is enqueued on, and valid until
  // the result is destroyed; what is on `carrying` by then may still read it
  // later. Copies only memory of the CPU that nobody owns; such memory of a
  // device its owner keeps until the transfer is over.
  // INVALID_ARGUMENT: the range lies outside the storage, or the storage has no
  // memory.
  virtual absl::StatusOr<SendBuffer> PrepareToSend(
      const c10::Storage& storage, ByteRange range,
      c10::Stream carrying) const = 0;

  // Memory of `nbytes` on `device`, 64-byte aligned where the CPU is concerned,
  // that may be written in the order of `receiving`. With 0 bytes the pointer
  // may be null. `source` may be null; converters other than the CPU's may
  // ignore it. RESOURCE_EXHAUSTED: the device has no memory left.
  virtual absl::StatusOr<c10::DataPtr> AllocateToReceive(
      uint64_t nbytes, c10::Device device, c10::Stream receiving,
      BufferSource* source) const = 0;

  // Has all that comes onto `later` wait for what is on `earlier` now. Both are
  // of this type, maybe of two devices. The host does not wait.
  virtual absl::Status Order(c10::Stream earlier, c10::Stream later) const;

  // Runs `reached` once all that is on `stream` now is over, with OK or with
  // the error of the device: on any thread, at once or later. It must be short
  // and leave the device alone. The host does not wait.
  virtual void WhenReached(c10::Stream stream, DoneStatus reached) const;

  // The next three: without the first there are no digests of this type's
  // tensors; without all, for a type that crosses as a GPU's, no way through
  // host memory where no path carries them. Then they are UNIMPLEMENTED.
  // For 0 bytes they leave the device alone: whoever asks what there is does it
  // so.

  // Memory of the host that holds these bytes of the device once `stream` has
  // come so far. The host does not wait.
  virtual absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte* data,
                                                  uint64_t nbytes,
                                                  c10::Stream stream) const;

  // Memory of the host that CopyFromHost takes without the host waiting.
  // RESOURCE_EXHAUSTED: there is none left.
  virtual absl::StatusOr<c10::DataPtr> HostMemory(uint64_t nbytes,
                                                  c10::Device device) const;

  // Fills these bytes of the device with those at `from`, of HostMemory, once
  // `stream` has come so far; nobody else has `from` before. The host does not
  // wait.
  virtual absl::Status CopyFromHost(c10::DataPtr from, uint64_t nbytes,
                                    std::byte* data, c10::Stream stream) const;

  // Whether at::Tensor::copy_ works on this type in the order of the current
  // stream: small storages of a message then travel together, and views without
  // their holes.
  virtual bool CanPack() const { return false; }

  // tensorpipe's view of memory of this type: a CudaBuffer of the GPU that
  // DeviceInfo::carried_as names, a CpuBuffer if it names none.
  virtual tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                           c10::Stream stream) const = 0;

  // The devices of this type that this process can use now.
  virtual std::vector<DeviceInfo> Devices() const = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DEVICE_CONVERTER_H_
