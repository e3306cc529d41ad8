// All that tensorferry has to know about the toy device. Linked (alwayslink),
// it registers itself.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <tensorpipe/common/cpu_buffer.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "examples/toy_device/toy_device.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"

namespace toy {
namespace {

using ::tensorferry::ByteRange;
using ::tensorferry::DeviceInfo;
using ::tensorferry::SendBuffer;

absl::StatusOr<c10::DataPtr> AllocateOn(c10::Device device, uint64_t nbytes) {
  try {
    return c10::GetAllocator(device.type())->allocate(nbytes);
  } catch (const c10::Error& error) {
    return absl::ResourceExhaustedError(error.what_without_backtrace());
  }
}

class ToyConverter : public tensorferry::DeviceConverter {
 public:
  absl::StatusOr<SendBuffer> PrepareToSend(const c10::Storage& storage,
                                           ByteRange range,
                                           c10::Stream) const override {
    if (range.begin > storage.nbytes() ||
        range.nbytes > storage.nbytes() - range.begin) {
      return absl::InvalidArgumentError(
          absl::StrCat("bytes ", range.begin, " + ", range.nbytes,
                       " of a storage of ", storage.nbytes(), " bytes"));
    }
    auto* memory = static_cast<const std::byte*>(storage.data());
    if (memory == nullptr && range.nbytes > 0) {
      return absl::InvalidArgumentError("a storage without memory");
    }
    SendBuffer buffer;
    buffer.nbytes = range.nbytes;
    buffer.owner_storage = storage;
    if (memory != nullptr) {
      buffer.data = const_cast<std::byte*>(memory) + range.begin;
    }
    return buffer;
  }

  absl::StatusOr<c10::DataPtr> AllocateToReceive(
      uint64_t nbytes, c10::Device device, c10::Stream,
      tensorferry::BufferSource*) const override {
    return AllocateOn(device, nbytes);
  }

  absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte* data,
                                          uint64_t nbytes,
                                          c10::Stream) const override {
    absl::StatusOr<c10::DataPtr> copy = AllocateOn(c10::kCPU, nbytes);
    if (copy.ok() && nbytes > 0) std::memcpy(copy->get(), data, nbytes);
    return copy;
  }

  // The host can read it, so it crosses as memory of the host.
  tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                   c10::Stream) const override {
    tensorpipe::CpuBuffer buffer;
    buffer.ptr = data;
    return buffer;
  }

  std::vector<DeviceInfo> Devices() const override {
    DeviceInfo device;
    device.id = {c10::DeviceTypeName(kDevice.type(), /*lower_case=*/true), 0};
    device.name = "toy";
    return {device};
  }
};

FERRY_REGISTER_CONVERTER(PrivateUse1, ToyConverter);

}  // namespace
}  // namespace toy
