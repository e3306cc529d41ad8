#ifndef TENSORFERRY_SERIALIZATION_TORCH_TYPES_H_
#define TENSORFERRY_SERIALIZATION_TORCH_TYPES_H_

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstddef>

#include "absl/status/statusor.h"
#include "base/device_id.h"
#include "serialization/dtype.h"

namespace tensorferry {

// libtorch's values and the wire's, both ways.

// INVALID_ARGUMENT: the manifest has no code for this dtype.
absl::StatusOr<Dtype> DtypeOf(c10::ScalarType type);
c10::ScalarType ScalarTypeOf(Dtype dtype);
// A type of 1, 2, 4, 8 or 16 bytes whose elements libtorch copies as they are:
// it cannot copy every dtype.
c10::ScalarType BitsOf(size_t itemsize);

// A device without an index is its type's number 0.
DeviceId DeviceIdOf(c10::Device device);
// INVALID_ARGUMENT: libtorch knows no such device type.
absl::StatusOr<c10::Device> TorchDeviceOf(const DeviceId& device);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_TYPES_H_
