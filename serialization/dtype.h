#ifndef TENSORFERRY_SERIALIZATION_DTYPE_H_
#define TENSORFERRY_SERIALIZATION_DTYPE_H_

#include <cstdint>
#include <iterator>

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

namespace dtypes {

constexpr DtypeInfo Real(absl::string_view name, uint8_t itemsize) {
  return {name, itemsize, 1, DtypeInfo::kReal, false};
}
constexpr DtypeInfo Float(absl::string_view name, uint8_t itemsize) {
  return {name, itemsize, 1, DtypeInfo::kReal, true};
}
constexpr DtypeInfo Complex(absl::string_view name, uint8_t itemsize) {
  return {name, itemsize, 1, DtypeInfo::kComplex, true};
}
constexpr DtypeInfo Quantised(absl::string_view name, uint8_t itemsize,
                              uint8_t per_byte = 1) {
  return {name, itemsize, per_byte, DtypeInfo::kQuantised, false};
}
constexpr DtypeInfo Other(absl::string_view name, uint8_t itemsize) {
  return {name, itemsize, 1, DtypeInfo::kOther, false};
}

// In the order of the codes, from 1.
inline constexpr DtypeInfo kTable[] = {
    Float("float32", 4),
    Float("float64", 8),
    Float("float16", 2),
    Float("bfloat16", 2),
    Real("bool", 1),
    Real("uint8", 1),
    Real("int8", 1),
    Real("int16", 2),
    Real("int32", 4),
    Real("int64", 8),
    Real("uint16", 2),
    Real("uint32", 4),
    Real("uint64", 8),
    Complex("complex32", 4),
    Complex("complex64", 8),
    Complex("complex128", 16),
    Float("float8_e4m3fn", 1),
    Float("float8_e5m2", 1),
    Float("float8_e4m3fnuz", 1),
    Float("float8_e5m2fnuz", 1),
    Float("float8_e8m0fnu", 1),
    Float("float4_e2m1fn_x2", 1),
    Quantised("qint8", 1),
    Quantised("quint8", 1),
    Quantised("qint32", 4),
    Quantised("quint4x2", 1, 2),
    Quantised("quint2x4", 1, 4),
    Other("bits1x8", 1),
    Other("bits2x4", 1),
    Other("bits4x2", 1),
    Other("bits8", 1),
    Other("bits16", 2),
    Other("uint1", 1),
    Other("uint2", 1),
    Other("uint3", 1),
    Other("uint4", 1),
    Other("uint5", 1),
    Other("uint6", 1),
    Other("uint7", 1),
    Other("int1", 1),
    Other("int2", 1),
    Other("int3", 1),
    Other("int4", 1),
    Other("int5", 1),
    Other("int6", 1),
    Other("int7", 1),
    Complex("bcomplex32", 4),
};
static_assert(std::size(kTable) == static_cast<size_t>(Dtype::kBcomplex32));

}  // namespace dtypes

// Null if no dtype has this code.
inline const DtypeInfo* FindDtype(uint8_t code) {
  if (code == 0 || code > std::size(dtypes::kTable)) return nullptr;
  return &dtypes::kTable[code - 1];
}

inline const DtypeInfo& InfoOf(Dtype dtype) {
  return *FindDtype(static_cast<uint8_t>(dtype));
}

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DTYPE_H_
