#ifndef TENSORFERRY_SERIALIZATION_CHECK_RANGE_H_
#define TENSORFERRY_SERIALIZATION_CHECK_RANGE_H_

#include <c10/core/Storage.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "serialization/device_converter.h"

namespace tensorferry {

// What PrepareToSend refuses, of whatever device. INVALID_ARGUMENT: the range
// lies outside the storage, or the storage has no memory.
inline absl::Status CheckRange(const c10::Storage& storage, ByteRange range) {
  if (range.begin > storage.nbytes() ||
      range.nbytes > storage.nbytes() - range.begin) {
    return absl::InvalidArgumentError(
        absl::StrCat("bytes ", range.begin, " + ", range.nbytes,
                     " of a storage of ", storage.nbytes(), " bytes"));
  }
  // Const access: it neither copies nor unshares what is copied on write.
  if (storage.data_ptr().get() == nullptr && range.nbytes > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a storage of ", storage.nbytes(), " bytes without memory"));
  }
  return absl::OkStatus();
}

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_CHECK_RANGE_H_
