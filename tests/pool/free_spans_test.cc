#include "pool/free_spans.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <vector>

namespace tensorferry {
namespace {

TEST(FreeSpansTest, TakesFromTheSmallestThatIsLargeEnough) {
  FreeSpans spans;
  spans.Add(0, 100);
  spans.Add(200, 10);
  spans.Add(300, 50);
  EXPECT_EQ(spans.Take(10), 200);
  EXPECT_EQ(spans.Take(20), 300);
  EXPECT_EQ(spans.Take(60), 0);
  EXPECT_EQ(spans.Take(60), std::nullopt);
  EXPECT_EQ(spans.Take(40), 60);
}

TEST(FreeSpansTest, WhatComesBackMeltsWithBothNeighbours) {
  FreeSpans spans;
  spans.Add(0, 10);
  spans.Add(20, 10);
  EXPECT_EQ(spans.Take(30), std::nullopt);
  spans.Add(10, 10);
  EXPECT_EQ(spans.Take(30), 0);
}

TEST(FreeSpansTest, WhatIsRemovedIsTakenNoMore) {
  FreeSpans spans;
  spans.Add(0, 10);
  spans.Add(20, 10);
  spans.Add(40, 10);
  spans.Remove(0, 35);
  EXPECT_EQ(spans.Take(10), 40);
  EXPECT_EQ(spans.Take(1), std::nullopt);
}

TEST(FreeSpansTest, RangesNeverOverlapAndEndAsOne) {
  constexpr uint64_t kAll = 1000;
  for (int seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    FreeSpans spans;
    spans.Add(0, kAll);
    std::map<uint64_t, uint64_t> taken;  // -> size
    for (int step = 0; step < 400; ++step) {
      if (random() % 2 == 0 || taken.empty()) {
        const uint64_t size = 1 + random() % 50;
        const std::optional<uint64_t> begin = spans.Take(size);
        if (!begin) continue;
        const auto [at, is_new] = taken.emplace(*begin, size);
        ASSERT_TRUE(is_new);
        ASSERT_LE(*begin + size, kAll);
        if (at != taken.begin()) {
          ASSERT_LE(std::prev(at)->first + std::prev(at)->second, *begin);
        }
        if (std::next(at) != taken.end()) {
          ASSERT_LE(*begin + size, std::next(at)->first);
        }
      } else {
        const auto at = std::next(taken.begin(), random() % taken.size());
        spans.Add(at->first, at->second);
        taken.erase(at);
      }
    }
    for (const auto& [begin, size] : taken) spans.Add(begin, size);
    EXPECT_EQ(spans.Take(kAll), 0) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tensorferry
