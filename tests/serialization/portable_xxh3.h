#ifndef TENSORFERRY_TESTS_SERIALIZATION_PORTABLE_XXH3_H_
#define TENSORFERRY_TESTS_SERIALIZATION_PORTABLE_XXH3_H_

#include <cstddef>
#include <cstdint>

namespace tensorferry::testing {

// XXH3-64 as xxhash's own C has it, without any vectors.
uint64_t PortableXxh3(const void* data, size_t nbytes);

}  // namespace tensorferry::testing

#endif  // TENSORFERRY_TESTS_SERIALIZATION_PORTABLE_XXH3_H_
