#include "channel/streaming_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace tensorferry {
namespace {

TEST(StreamingCopyTest, WritesTheBytesAndNothingBesideThem) {
  // What is copied at once, a little more and a little less.
  constexpr uint64_t kSpace = 4096, kPages = 4 * 4096, kMost = 5 * kPages;
  std::string from(kMost + kSpace, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i % 251);
  for (const uint64_t nbytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{31}, uint64_t{128}, kPages - 1,
        kPages, kPages + 31, kPages + 127, 2 * kPages + 4097, kMost}) {
    for (const uint64_t to_at : {1, 31, 32, 33, 64}) {
      for (const uint64_t from_at : {0, 7, 32}) {
        for (const Caches caches : {Caches::kUsed, Caches::kPassed}) {
          std::string to(to_at + nbytes + kSpace, 'x');
          StreamingCopy(&to[to_at], &from[from_at], nbytes, caches);
          EXPECT_EQ(to.compare(to_at, nbytes, from, from_at, nbytes), 0);
          EXPECT_EQ(std::count(to.begin(), to.begin() + to_at, 'x'), to_at);
          EXPECT_EQ(std::count(to.begin() + to_at + nbytes, to.end(), 'x'),
                    kSpace);
        }
      }
    }
  }
}

struct Reader : CopyReader {
  void Read(const std::byte* data, uint64_t nbytes) override {
    read.append(reinterpret_cast<const char*>(data), nbytes);
  }
  std::string read;
};

TEST(StreamingCopyTest, WhoReadsAlongSeesAllOfItInOrder) {
  std::string from(1'100'001, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i % 251);
  for (const uint64_t nbytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{100'000}, from.size()}) {
    for (const Caches caches : {Caches::kUsed, Caches::kPassed}) {
      std::string to(nbytes, 'x');
      Reader reader;
      StreamingCopy(to.data(), from.data(), nbytes, caches, &reader);
      EXPECT_TRUE(to == from.substr(0, nbytes)) << nbytes;
      EXPECT_TRUE(reader.read == to) << nbytes;
    }
  }
}

}  // namespace
}  // namespace tensorferry
