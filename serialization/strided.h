#ifndef TENSORFERRY_SERIALIZATION_STRIDED_H_
#define TENSORFERRY_SERIALIZATION_STRIDED_H_

#include <cstdint>

#include "absl/types/span.h"
#include "serialization/dtype.h"

namespace tensorferry {

// Arithmetic on strided windows, safe on what a peer wrote. Where strides are
// passed they are one for each size, or none for a contiguous window.

// The product of `sizes`. False: a negative size, or dimensions other than 0
// that do not fit 63 bits.
bool NumelOf(absl::Span<const int64_t> sizes, uint64_t* numel);

// The first byte after all that a window reaches, counted from the start of
// its storage; 0 for an empty window.
// False: a negative number, an overflow, an empty window with an offset, or a
// packed dtype that is not contiguous from the start.
bool EndOf(const DtypeInfo& dtype, int64_t offset,
           absl::Span<const int64_t> sizes, absl::Span<const int64_t> strides,
           uint64_t* end);

// Whether `strides` are exactly those of a contiguous tensor of `sizes`.
bool AreContiguous(absl::Span<const int64_t> sizes,
                   absl::Span<const int64_t> strides);

// Whether the window has no holes: each element between its first and its
// last is part of it, once, but for dimensions of stride 0.
bool HasNoHoles(absl::Span<const int64_t> sizes,
                absl::Span<const int64_t> strides);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_STRIDED_H_
