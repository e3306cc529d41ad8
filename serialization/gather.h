#ifndef TENSORFERRY_SERIALIZATION_GATHER_H_
#define TENSORFERRY_SERIALIZATION_GATHER_H_

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"

namespace tensorferry {

// Whether a window covers less than half of the span from its first element
// to its last.
bool IsWorthGathering(absl::Span<const int64_t> sizes,
                      absl::Span<const int64_t> strides);

// The elements of `tensor` copied without holes: sizes, the order of dimensions
// in memory and dimensions of stride 0 stay. They are copied as bits: the
// result has an integer (or, of 16 bytes, complex) type, and conjugate and
// negative bits are neither applied nor set. Throws what libtorch throws.
at::Tensor Gather(const c10::TensorImpl& tensor);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_GATHER_H_
