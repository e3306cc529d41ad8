#include <tensorpipe/common/cpu_buffer.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/machine_memory.h"
#include "base/status_macros.h"
#include "serialization/check_range.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "serialization/host_memory.h"

namespace tensorferry {
namespace {

constexpr size_t kAlignment = 64;

class CpuConverter : public DeviceConverter {
 public:
  absl::StatusOr<SendBuffer> PrepareToSend(const c10::Storage& storage,
                                           ByteRange range,
                                           c10::Stream) const override {
    FERRY_RETURN_IF_ERROR(CheckRange(storage, range));
    // Const access throughout: it neither copies nor unshares a storage that
    // is copied on write.
    const c10::DataPtr& owner = storage.data_ptr();
    const char* begin = static_cast<const char*>(owner.get()) +
                        (range.nbytes ? range.begin : 0);
    SendBuffer buffer;
    buffer.nbytes = range.nbytes;
    if (owner.get_context() == nullptr && range.nbytes > 0) {
      // from_blob without a deleter: nobody keeps these bytes for us.
      FERRY_ASSIGN_OR_RETURN(buffer.owner_data, AllocateOnHost(range.nbytes));
      std::memcpy(buffer.owner_data.get(), begin, range.nbytes);
      buffer.data = static_cast<std::byte*>(buffer.owner_data.get());
    } else {
      buffer.owner_storage = storage;
      buffer.data = reinterpret_cast<std::byte*>(const_cast<char*>(begin));
    }
    return buffer;
  }

  absl::StatusOr<c10::DataPtr> AllocateToReceive(
      uint64_t nbytes, c10::Device device, c10::Stream,
      BufferSource* source) const override {
    if (!device.is_cpu()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the cpu converter cannot allocate on ", device.str()));
    }
    if (source == nullptr || nbytes == 0) return AllocateOnHost(nbytes);
    return source->Take(nbytes, kAlignment);
  }

  bool CanPack() const override { return true; }

  tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                   c10::Stream) const override {
    tensorpipe::CpuBuffer buffer;
    buffer.ptr = data;
    return buffer;
  }

  std::vector<DeviceInfo> Devices() const override {
    DeviceInfo host;
    host.total_bytes = MachineMemory();
    host.free_bytes = FreeMachineMemory();
    return {host};
  }
};

FERRY_REGISTER_CONVERTER(CPU, CpuConverter);

}  // namespace
}  // namespace tensorferry
