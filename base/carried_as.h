#ifndef TENSORFERRY_BASE_CARRIED_AS_H_
#define TENSORFERRY_BASE_CARRIED_AS_H_

#include "base/device_id.h"

namespace tensorferry {

// As which device tensorpipe, which knows two types, carries memory of
// `device`: that of CUDA as it is, any other as the host's. The buffers that a
// converter makes of it (DeviceConverter::CarriedBuffer) are of this device.
inline DeviceId CarriedAs(const DeviceId& device) {
  return device.type == "cuda" ? device : DeviceId();
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_CARRIED_AS_H_
