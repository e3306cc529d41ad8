// All that tensorferry has to know about the toy GPU: CUDA's converter, which
// is linked with this, does the work. Linked (alwayslink), it registers itself.
#include <string>
#include <utility>
#include <vector>

#include "examples/toy_gpu/toy_gpu.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"

namespace toy_gpu {
namespace {

using ::tensorferry::ByteRange;
using ::tensorferry::ConverterRegistry;
using ::tensorferry::DeviceConverter;
using ::tensorferry::DeviceInfo;
using ::tensorferry::SendBuffer;

const DeviceConverter& Cuda() {
  static const DeviceConverter* const cuda =
      *ConverterRegistry::Global().Find(c10::kCUDA);
  return *cuda;
}

class ToyGpuConverter : public DeviceConverter {
 public:
  absl::StatusOr<SendBuffer> PrepareToSend(
      const c10::Storage& storage, ByteRange range,
      c10::Stream carrying) const override {
    return Cuda().PrepareToSend(storage, range, OnGpu(carrying));
  }

  absl::StatusOr<c10::DataPtr> AllocateToReceive(
      uint64_t nbytes, c10::Device device, c10::Stream receiving,
      tensorferry::BufferSource* source) const override {
    absl::StatusOr<c10::DataPtr> memory = Cuda().AllocateToReceive(
        nbytes, OnGpu(device), OnGpu(receiving), source);
    if (memory.ok()) memory->unsafe_set_device(device);
    return memory;
  }

  absl::Status Order(c10::Stream earlier, c10::Stream later) const override {
    return Cuda().Order(OnGpu(earlier), OnGpu(later));
  }

  void WhenReached(c10::Stream stream,
                   tensorferry::DoneStatus reached) const override {
    Cuda().WhenReached(OnGpu(stream), std::move(reached));
  }

  absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte* data,
                                          uint64_t nbytes,
                                          c10::Stream stream) const override {
    return Cuda().CopyToHost(data, nbytes, OnGpu(stream));
  }

  absl::StatusOr<c10::DataPtr> HostMemory(uint64_t nbytes,
                                          c10::Device device) const override {
    return Cuda().HostMemory(nbytes, OnGpu(device));
  }

  absl::Status CopyFromHost(c10::DataPtr from, uint64_t nbytes, std::byte* data,
                            c10::Stream stream) const override {
    return Cuda().CopyFromHost(std::move(from), nbytes, data, OnGpu(stream));
  }

  // CanPack stays false: the toy has no kernels, and at::Tensor::copy_, by
  // which small storages are packed, would need one. So each of them goes by
  // itself.
  tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                   c10::Stream stream) const override {
    return Cuda().CarriedBuffer(data, OnGpu(stream));
  }

  // Each of them tells the peer as which GPU its memory crosses.
  std::vector<DeviceInfo> Devices() const override {
    std::vector<DeviceInfo> devices = Cuda().Devices();
    for (DeviceInfo& device : devices) {
      device.carried_as = device.id;
      device.id.type = c10::DeviceTypeName(kType, /*lower_case=*/true);
      device.name = "toy on " + device.name;
    }
    return devices;
  }
};

FERRY_REGISTER_CONVERTER(PrivateUse1, ToyGpuConverter);

}  // namespace
}  // namespace toy_gpu
