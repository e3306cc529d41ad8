#ifndef TENSORFERRY_BASE_LITTLE_ENDIAN_H_
#define TENSORFERRY_BASE_LITTLE_ENDIAN_H_

#include <cstddef>
#include <cstdint>

namespace tensorferry {

// Numbers of up to eight bytes, the lowest byte first.

inline void StoreLittleEndian(uint64_t number, size_t bytes, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  for (size_t i = 0; i < bytes; ++i) {
    to[i] = static_cast<uint8_t>(number >> (8 * i));
  }
}

inline uint64_t LoadLittleEndian(const void* in, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(in);
  uint64_t number = 0;
  for (size_t i = 0; i < bytes; ++i) number |= uint64_t{from[i]} << (8 * i);
  return number;
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_LITTLE_ENDIAN_H_
