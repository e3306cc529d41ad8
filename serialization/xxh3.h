#ifndef TENSORFERRY_SERIALIZATION_XXH3_H_
#define TENSORFERRY_SERIALIZATION_XXH3_H_

// For the size of a state.
#define XXH_STATIC_LINKING_ONLY
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

// The same of bytes that come part by part.
class Xxh3Parts {
 public:
  Xxh3Parts() { XXH3_64bits_reset(&state_); }
  void Add(const std::byte* data, uint64_t nbytes) {
    XXH3_64bits_update(&state_, data, nbytes);
  }
  // And begins anew.
  uint64_t Take() {
    const uint64_t digest = XXH3_64bits_digest(&state_);
    XXH3_64bits_reset(&state_);
    return std::max<uint64_t>(digest, 1);
  }

 private:
  XXH3_state_t state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_XXH3_H_
