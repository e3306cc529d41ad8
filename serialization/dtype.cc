#include "serialization/dtype.h"

#include <iterator>

namespace tensorferry {
namespace {

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
constexpr DtypeInfo kDtypes[] = {
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
static_assert(std::size(kDtypes) == static_cast<size_t>(Dtype::kBcomplex32));

}  // namespace

const DtypeInfo* FindDtype(uint8_t code) {
  if (code == 0 || code > std::size(kDtypes)) return nullptr;
  return &kDtypes[code - 1];
}

}  // namespace tensorferry
