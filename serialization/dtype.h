#ifndef TENSORFERRY_SERIALIZATION_DTYPE_H_
#define TENSORFERRY_SERIALIZATION_DTYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace tensorferry {

// The type of a tensor's elements as a manifest names it. The numbers are the
// wire format's own and never change or get a second meaning, whatever happens
// to libtorch's enum.
enum class Dtype : uint8_t {
  kFloat32 = 1,
  kFloat64 = 2,
  kFloat16 = 3,
  kBfloat16 = 4,
  kBool = 5,
  kUint8 = 6,
  kInt8 = 7,
  kInt16 = 8,
  kInt32 = 9,
  kInt64 = 10,
  kUint16 = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex32 = 14,
  kComplex64 = 15,
  kComplex128 = 16,
  kFloat8E4m3fn = 17,
  kFloat8E5m2 = 18,
  kFloat8E4m3fnuz = 19,
  kFloat8E5m2fnuz = 20,
  kFloat8E8m0fnu = 21,
  kFloat4E2m1fnX2 = 22,
  kQint8 = 23,
  kQuint8 = 24,
  kQint32 = 25,
  kQuint4x2 = 26,
  kQuint2x4 = 27,
  kBits1x8 = 28,
  kBits2x4 = 29,
  kBits4x2 = 30,
  kBits8 = 31,
  kBits16 = 32,
  kUint1 = 33,
  kUint2 = 34,
  kUint3 = 35,
  kUint4 = 36,
  kUint5 = 37,
  kUint6 = 38,
  kUint7 = 39,
  kInt1 = 40,
  kInt2 = 41,
  kInt3 = 42,
  kInt4 = 43,
  kInt5 = 44,
  kInt6 = 45,
  kInt7 = 46,
  kBcomplex32 = 47,
};

struct DtypeInfo {
  absl::string_view name;  // "float32"
  uint8_t itemsize = 0;    // bytes of an element, or of `per_byte` elements
  uint8_t per_byte = 1;    // more than 1: rows are packed and byte-aligned
  enum Class : uint8_t { kReal, kComplex, kQuantised, kOther } type_class;

  // What libtorch computes gradients for.
  bool differentiable = false;
};

// Null if no dtype has this code.
const DtypeInfo* FindDtype(uint8_t code);

inline const DtypeInfo& InfoOf(Dtype dtype) {
  return *FindDtype(static_cast<uint8_t>(dtype));
}

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DTYPE_H_
