#ifndef TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_
#define TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/core/Storage.h>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace tensorferry {

// A strided tensor on `storage`. No strides: contiguous. The window must lie
// in the storage. Throws what libtorch throws.
at::Tensor TensorOnStorage(c10::Storage storage, c10::ScalarType type,
                           int64_t offset, absl::Span<const int64_t> sizes,
                           absl::Span<const int64_t> strides);

// Whether a strided tensor, which has a storage, may be read and written: the
// storage may have been resized under it, and that of a wrapper around other
// tensors has no memory. Throws what libtorch throws.
// INVALID_ARGUMENT: it may not; the message is a clause that follows its name.
absl::Status CheckMemory(const c10::TensorImpl& tensor);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TENSOR_ON_STORAGE_H_
