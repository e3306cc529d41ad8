#include "serialization/strided.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"

namespace tensorferry {
namespace {

// Rows are packed and start on a byte.
bool EndOfPacked(const DtypeInfo& dtype, absl::Span<const int64_t> sizes,
                 uint64_t* end) {
  uint64_t rows;
  int64_t columns = sizes.empty() ? 1 : sizes.back();
  absl::Span<const int64_t> outer = sizes;
  if (!outer.empty()) outer.remove_suffix(1);
  if (!NumelOf(outer, &rows)) return false;
  // libtorch gives a scalar a byte of its own, as it would a row of one.
  int64_t row_bytes =
      columns / dtype.per_byte + (columns % dtype.per_byte != 0 ? 1 : 0);
  return !__builtin_mul_overflow(rows, row_bytes, end);
}

// The number of elements from a window's first to its last; sizes are not 0.
bool SpanOf(absl::Span<const int64_t> sizes, absl::Span<const int64_t> strides,
            int64_t* span) {
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) {
    int64_t step;
    if (strides[d] < 0 ||
        __builtin_mul_overflow(sizes[d] - 1, strides[d], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return false;
    }
  }
  return !__builtin_add_overflow(last, 1, span);
}

bool AnyNegative(absl::Span<const int64_t> numbers) {
  return std::any_of(numbers.begin(), numbers.end(),
                     [](int64_t number) { return number < 0; });
}

}  // namespace

bool NumelOf(absl::Span<const int64_t> sizes, uint64_t* numel) {
  int64_t product = 1;
  bool is_empty = false;
  for (int64_t size : sizes) {
    if (size < 0) return false;
    is_empty |= size == 0;
    // libtorch computes strides of empty tensors, too: they must fit.
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) {
      return false;
    }
  }
  *numel = is_empty ? 0 : product;
  return true;
}

bool EndOf(const DtypeInfo& dtype, int64_t offset,
           absl::Span<const int64_t> sizes, absl::Span<const int64_t> strides,
           uint64_t* end) {
  uint64_t numel;
  *end = 0;
  if (!NumelOf(sizes, &numel) || AnyNegative(strides) || offset < 0) {
    return false;
  }
  if (numel == 0) return offset == 0;
  if (dtype.per_byte > 1) {
    return offset == 0 && strides.empty() && EndOfPacked(dtype, sizes, end);
  }
  int64_t span = static_cast<int64_t>(numel);
  if (!strides.empty() && !SpanOf(sizes, strides, &span)) return false;
  int64_t bytes;
  if (__builtin_add_overflow(offset, span, &span) ||
      __builtin_mul_overflow(span, int64_t{dtype.itemsize}, &bytes)) {
    return false;
  }
  *end = static_cast<uint64_t>(bytes);
  return true;
}

bool AreContiguous(absl::Span<const int64_t> sizes,
                   absl::Span<const int64_t> strides) {
  int64_t expected = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    if (strides[d] != expected) return false;
    expected *= std::max<int64_t>(sizes[d], 1);
  }
  return true;
}

bool HasNoHoles(absl::Span<const int64_t> sizes,
                absl::Span<const int64_t> strides) {
  if (strides.empty()) return true;
  absl::InlinedVector<std::pair<int64_t, int64_t>, 8> dims;  // stride, size
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return true;
    if (sizes[d] > 1 && strides[d] != 0) dims.push_back({strides[d], sizes[d]});
  }
  std::sort(dims.begin(), dims.end());
  int64_t expected = 1;
  for (auto [stride, size] : dims) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

}  // namespace tensorferry
