#include "serialization/xxh3.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/serialization/portable_xxh3.h"

// The library's, as it is for a machine without run-time dispatch.
#undef XXH3_64bits

namespace tensorferry {
namespace {

using testing::PortableXxh3;

std::vector<std::byte> Bytes(size_t nbytes) {
  std::vector<std::byte> bytes(nbytes);
  uint64_t state = 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

std::vector<size_t> Lengths() {
  std::vector<size_t> lengths;
  for (size_t n = 0; n <= 1025; ++n) lengths.push_back(n);
  for (size_t n : {4095, 4096, 65537, 1 << 20, (5 << 20) + 3}) {
    lengths.push_back(n);
  }
  return lengths;
}

// Digests are on the wire: both sides compute the same, whatever their CPU.
TEST(Xxh3Test, IsThePortableOneWhateverTheVectors) {
  const std::vector<std::byte> bytes = Bytes((5 << 20) + 4);
  for (size_t n : Lengths()) {
    // Not aligned.
    const uint64_t want = PortableXxh3(bytes.data() + 1, n);
    EXPECT_EQ(Xxh3NotZero(bytes.data() + 1, n), want) << n;
    EXPECT_EQ(XXH3_64bits(bytes.data() + 1, n), want) << n;
  }
}

TEST(Xxh3Test, IsStable) {
  EXPECT_EQ(Xxh3NotZero(nullptr, 0), 0x2d06800538d394c2u);
}

TEST(Xxh3Test, IsTheSameOfBytesThatComePartByPart) {
  const std::vector<std::byte> bytes = Bytes(300'000);
  Xxh3Parts parts;
  for (const size_t part :
       {size_t{1}, size_t{63}, size_t{4096}, size_t{65537}}) {
    for (size_t at = 0; at < bytes.size(); at += part) {
      parts.Add(bytes.data() + at, std::min(part, bytes.size() - at));
    }
    EXPECT_EQ(parts.Take(), PortableXxh3(bytes.data(), bytes.size())) << part;
  }
}

}  // namespace
}  // namespace tensorferry
