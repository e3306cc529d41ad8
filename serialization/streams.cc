#include "serialization/streams.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::StatusOr<c10::Stream> StreamForDevice(const StreamSet& streams,
                                            c10::Device device) {
  if (device.is_cpu()) return c10::Stream(c10::Stream::DEFAULT, device);
  for (const c10::Stream& stream : streams) {
    if (stream.device() == device) return stream;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("no stream for device ", device.str(),
                   "; add one to the options' streams"));
}

StreamSet OrElse(StreamSet chosen, const StreamSet& otherwise) {
  for (const c10::Stream& stream : otherwise) {
    const bool is_chosen = std::any_of(
        chosen.begin(), chosen.end(), [&](const c10::Stream& other) {
          return other.device() == stream.device();
        });
    if (!is_chosen) chosen.push_back(stream);
  }
  return chosen;
}

c10::Stream CurrentStream(c10::Device device) {
  if (!c10::impl::hasDeviceGuardImpl(device.type())) {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace tensorferry
