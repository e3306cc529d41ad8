#include "channel/streaming_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace tensorferry {
namespace {

TEST(StreamingCopyTest, WritesTheBytesAndNothingBesideThem) {
  constexpr uint64_t kSpace = 4096, kPast = kPastCaches;
  std::string from(2 * kPast + kSpace, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i % 251);
  for (const uint64_t nbytes :
       {uint64_t{0}, uint64_t{1}, kPast - 1, kPast, kPast + 1, kPast + 31,
        kPast + 127, 2 * kPast}) {
    for (const uint64_t to_at : {1, 31, 32, 33, 64}) {
      for (const uint64_t from_at : {0, 7, 32}) {
        std::string to(to_at + nbytes + kSpace, 'x');
        StreamingCopy(&to[to_at], &from[from_at], nbytes, kPast);
        EXPECT_EQ(to.compare(to_at, nbytes, from, from_at, nbytes), 0);
        EXPECT_EQ(std::count(to.begin(), to.begin() + to_at, 'x'), to_at);
        EXPECT_EQ(std::count(to.begin() + to_at + nbytes, to.end(), 'x'),
                  kSpace);
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
  std::string from(kPastCaches + 100'001, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i % 251);
  for (const uint64_t nbytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{100'000}, from.size()}) {
    std::string to(nbytes, 'x');
    Reader reader;
    StreamingCopy(to.data(), from.data(), nbytes, kPastCaches, &reader);
    EXPECT_TRUE(to == from.substr(0, nbytes)) << nbytes;
    EXPECT_TRUE(reader.read == to) << nbytes;
  }
}

}  // namespace
}  // namespace tensorferry
