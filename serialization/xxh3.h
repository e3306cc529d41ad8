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
#include <memory>
#include <new>

namespace tensorferry {

// The digest of a storage: XXH3-64, but that 0 says that there is none.
inline uint64_t DigestOfBytes(const std::byte* data, uint64_t nbytes) {
  return std::max<uint64_t>(XXH3_64bits(data, nbytes), 1);
}

// The same of bytes that come piece by piece. Used again after Finish.
class StreamedDigest {
 public:
  StreamedDigest() : state_(XXH3_createState(), &XXH3_freeState) {
    if (state_ == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(state_.get());
  }

  void Add(const std::byte* data, uint64_t nbytes) {
    XXH3_64bits_update(state_.get(), data, nbytes);
  }

  uint64_t Finish() {
    const uint64_t digest = XXH3_64bits_digest(state_.get());
    XXH3_64bits_reset(state_.get());
    return std::max<uint64_t>(digest, 1);
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_XXH3_H_
