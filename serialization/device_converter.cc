#include "serialization/device_converter.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

absl::Status DoesNot(absl::string_view what, c10::Device device) {
  return absl::UnimplementedError(absl::StrCat(
      "the converter of ", device.str(), " does not ", what, " the host"));
}

}  // namespace

absl::Status DeviceConverter::Order(c10::Stream, c10::Stream) const {
  return absl::OkStatus();
}

void DeviceConverter::WhenReached(c10::Stream, DoneStatus reached) const {
  std::move(reached)(absl::OkStatus());
}

absl::StatusOr<c10::DataPtr> DeviceConverter::CopyToHost(
    const std::byte*, uint64_t, c10::Stream stream) const {
  return DoesNot("copy to", stream.device());
}

absl::StatusOr<c10::DataPtr> DeviceConverter::HostMemory(
    uint64_t, c10::Device device) const {
  return DoesNot("copy from", device);
}

absl::Status DeviceConverter::CopyFromHost(c10::DataPtr, uint64_t, std::byte*,
                                           c10::Stream stream) const {
  return DoesNot("copy from", stream.device());
}

}  // namespace tensorferry
