#ifndef TENSORFERRY_BASE_CARRIED_AS_H_
#define TENSORFERRY_BASE_CARRIED_AS_H_

#include <map>

#include "base/device_id.h"

namespace tensorferry {

// The devices of one peer that have a DeviceInfo::carried_as, and that.
using CarriedDevices = std::map<DeviceId, DeviceId>;

// Whether `as` can stand in the DeviceInfo::carried_as of `device`.
inline bool MayBeCarriedAs(const DeviceId& device, const DeviceId& as) {
  return !device.is_cpu() && device.type != "cuda" && as.type == "cuda";
}

// As which device tensorpipe, which knows two types, carries memory of
// `device`: that of CUDA as it is, what is in `carried` as that, any other as
// the host's. The buffers that a converter makes of it
// (DeviceConverter::CarriedBuffer) are of this device.
inline DeviceId CarriedAs(const DeviceId& device,
                          const CarriedDevices& carried) {
  if (auto as = carried.find(device); as != carried.end()) return as->second;
  return device.type == "cuda" ? device : DeviceId();
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_CARRIED_AS_H_
