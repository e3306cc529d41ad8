#ifndef TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_
#define TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/core/Storage.h>

#include "absl/types/span.h"

namespace tensorferry {

// A strided tensor on `storage`. No strides: contiguous. The window must lie
// in the storage. Throws what libtorch throws.
at::Tensor TensorOnStorage(c10::Storage storage, c10::ScalarType type,
                           int64_t offset, absl::Span<const int64_t> sizes,
                           absl::Span<const int64_t> strides);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_
