#include "serialization/device_converter.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status DeviceConverter::Order(c10::Stream, c10::Stream) const {
  return absl::OkStatus();
}

void DeviceConverter::WhenReached(c10::Stream, DoneStatus reached) const {
  std::move(reached)(absl::OkStatus());
}

absl::StatusOr<c10::DataPtr> DeviceConverter::CopyToHost(
    const std::byte*, uint64_t, c10::Stream stream) const {
  return absl::UnimplementedError(absl::StrCat("the converter of ",
                                               stream.device().str(),
                                               " does not copy to the host"));
}

}  // namespace tensorferry
