#include "tests/serialization/portable_xxh3.h"

#define XXH_INLINE_ALL
#define XXH_VECTOR 0
#include <xxhash.h>

namespace tensorferry::testing {

uint64_t PortableXxh3(const void* data, size_t nbytes) {
  return XXH3_64bits(data, nbytes);
}

}  // namespace tensorferry::testing
