#ifndef TENSORFERRY_SERIALIZATION_XXH3_H_
#define TENSORFERRY_SERIALIZATION_XXH3_H_

#include <xxhash.h>
#if defined(__x86_64__)
// The library's own choice among the vectors that the CPU has, made when it
// runs: from L2 twice as fast as what it was built for, of the same value.
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tensorferry {

// XXH3-64, but that 0, which says that there is no digest, is 1.
inline uint64_t Xxh3NotZero(const std::byte* data, uint64_t nbytes) {
  return std::max<uint64_t>(XXH3_64bits(data, nbytes), 1);
}

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_XXH3_H_
