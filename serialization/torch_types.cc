#include "serialization/torch_types.h"

#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using c10::ScalarType;

// In the order of Dtype's codes, from 1.
constexpr ScalarType kScalarTypes[] = {
    ScalarType::Float,
    ScalarType::Double,
    ScalarType::Half,
    ScalarType::BFloat16,
    ScalarType::Bool,
    ScalarType::Byte,
    ScalarType::Char,
    ScalarType::Short,
    ScalarType::Int,
    ScalarType::Long,
    ScalarType::UInt16,
    ScalarType::UInt32,
    ScalarType::UInt64,
    ScalarType::ComplexHalf,
    ScalarType::ComplexFloat,
    ScalarType::ComplexDouble,
    ScalarType::Float8_e4m3fn,
    ScalarType::Float8_e5m2,
    ScalarType::Float8_e4m3fnuz,
    ScalarType::Float8_e5m2fnuz,
    ScalarType::Float8_e8m0fnu,
    ScalarType::Float4_e2m1fn_x2,
    ScalarType::QInt8,
    ScalarType::QUInt8,
    ScalarType::QInt32,
    ScalarType::QUInt4x2,
    ScalarType::QUInt2x4,
    ScalarType::Bits1x8,
    ScalarType::Bits2x4,
    ScalarType::Bits4x2,
    ScalarType::Bits8,
    ScalarType::Bits16,
    ScalarType::UInt1,
    ScalarType::UInt2,
    ScalarType::UInt3,
    ScalarType::UInt4,
    ScalarType::UInt5,
    ScalarType::UInt6,
    ScalarType::UInt7,
    ScalarType::Int1,
    ScalarType::Int2,
    ScalarType::Int3,
    ScalarType::Int4,
    ScalarType::Int5,
    ScalarType::Int6,
    ScalarType::Int7,
    ScalarType::BComplex32,
};
static_assert(std::size(kScalarTypes) ==
              static_cast<size_t>(Dtype::kBcomplex32));

constexpr size_t kTypes = static_cast<size_t>(ScalarType::NumOptions);

// Entry 0: none.
constexpr std::array<uint8_t, kTypes> InvertedScalarTypes() {
  std::array<uint8_t, kTypes> codes{};
  for (size_t i = 0; i < std::size(kScalarTypes); ++i) {
    codes[static_cast<size_t>(kScalarTypes[i])] = static_cast<uint8_t>(i + 1);
  }
  return codes;
}
constexpr std::array<uint8_t, kTypes> kCodes = InvertedScalarTypes();

}  // namespace

absl::StatusOr<Dtype> DtypeOf(ScalarType type) {
  size_t index = static_cast<size_t>(type);
  if (index >= kTypes || kCodes[index] == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype ", c10::toString(type), " cannot be sent"));
  }
  return static_cast<Dtype>(kCodes[index]);
}

ScalarType ScalarTypeOf(Dtype dtype) {
  return kScalarTypes[static_cast<size_t>(dtype) - 1];
}

ScalarType BitsOf(size_t itemsize) {
  switch (itemsize) {
    case 1:
      return ScalarType::Byte;
    case 2:
      return ScalarType::Short;
    case 4:
      return ScalarType::Int;
    case 8:
      return ScalarType::Long;
    default:
      return ScalarType::ComplexDouble;
  }
}

DeviceId DeviceIdOf(c10::Device device) {
  return {c10::DeviceTypeName(device.type(), /*lower_case=*/true),
          device.has_index() ? device.index() : 0};
}

absl::StatusOr<c10::Device> TorchDeviceOf(const DeviceId& device) {
  if (device.is_cpu()) return c10::Device(c10::kCPU);
  for (int type = 0;
       type < static_cast<int>(c10::COMPILE_TIME_MAX_DEVICE_TYPES); ++type) {
    auto torch_type = static_cast<c10::DeviceType>(type);
    if (c10::isValidDeviceType(torch_type) &&
        c10::DeviceTypeName(torch_type, /*lower_case=*/true) == device.type) {
      return c10::Device(torch_type,
                         static_cast<c10::DeviceIndex>(device.index));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("libtorch knows no device of type \"", device.type, "\""));
}

}  // namespace tensorferry
