#include "serialization/streams.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

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
  // Whoever looks for a stream takes the first of its device.
  chosen.insert(chosen.end(), otherwise.begin(), otherwise.end());
  return chosen;
}

c10::Stream CurrentStream(c10::Device device) {
  if (!c10::impl::hasDeviceGuardImpl(device.type())) {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace tensorferry
