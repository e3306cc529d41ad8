#include "pool/buffer_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "pool/pool_budget.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;
using Block = BufferPool::Block;

constexpr uint64_t kMiB = uint64_t{1} << 20;

class BufferPoolTest : public ::testing::Test {
 protected:
  std::shared_ptr<BufferPool> Pool() {
    return BufferPool::Create({.budget = budget_,
                               .arena_bytes = 8 * kMiB,
                               .idle = absl::Seconds(30),
                               .clock = &clock_});
  }
  static Block Taken(BufferPool& pool, uint64_t nbytes) {
    absl::StatusOr<Block> block = pool.Take(nbytes);
    EXPECT_THAT(block, IsOk());
    return block.ok() ? *std::move(block) : Block();
  }

  FakeClock clock_;
  const std::shared_ptr<PoolBudget> budget_ =
      std::make_shared<PoolBudget>(64 * kMiB);
};

bool Overlap(const Block& a, uint64_t a_bytes, const Block& b,
             uint64_t b_bytes) {
  return a.data < b.data + b_bytes && b.data < a.data + a_bytes;
}

TEST_F(BufferPoolTest, ABlockThatCameBackIsHandedOutAgain) {
  auto pool = Pool();
  Block block = Taken(*pool, kMiB);
  std::byte* const first = block.data;
  block = Block();
  block = Taken(*pool, kMiB);
  EXPECT_EQ(block.data, first);
  EXPECT_EQ(pool->held(), 4 * kMiB);
}

TEST_F(BufferPoolTest, WhatIsFreeIsKnownBefore) {
  auto pool = Pool();
  EXPECT_FALSE(pool->HasFree(1));
  Block block = Taken(*pool, kMiB);
  EXPECT_TRUE(pool->HasFree(3 * kMiB));
  EXPECT_FALSE(pool->HasFree(3 * kMiB + 1));
  block = Block();
  EXPECT_TRUE(pool->HasFree(4 * kMiB));
  EXPECT_FALSE(pool->HasFree(4 * kMiB + 1));
}

TEST_F(BufferPoolTest, WhatIsFreeOnTheThreadsOwnMemoryNodeIsTakenFirst) {
  unsigned node = 0;
  auto pool = BufferPool::Create(
      {.budget = budget_, .memory_node = [&node] { return node; }});
  std::byte* arenas[2];
  {
    const Block first = Taken(*pool, 4 * kMiB);
    node = 1;
    const Block second = Taken(*pool, 4 * kMiB);
    arenas[0] = first.data, arenas[1] = second.data;
  }
  const Block there = Taken(*pool, kMiB);
  EXPECT_EQ(there.data, arenas[1]);
  node = 0;
  const Block here = Taken(*pool, kMiB);
  EXPECT_EQ(here.data, arenas[0]);
  // Before more is made, the other's is taken.
  const Block rest = Taken(*pool, 3 * kMiB), from_there = Taken(*pool, kMiB);
  EXPECT_EQ(from_there.data, arenas[1] + kMiB);
  EXPECT_EQ(pool->held(), 8 * kMiB);
}

TEST_F(BufferPoolTest, BlocksAreWholePagesAndApart) {
  auto pool = Pool();
  const Block one = Taken(*pool, 1);
  const Block two = Taken(*pool, kPageBytes + 1);
  const Block three = Taken(*pool, kPageBytes);
  for (const Block& block : {one, two, three}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data) % kPageBytes, 0);
  }
  EXPECT_FALSE(Overlap(one, kPageBytes, two, 2 * kPageBytes));
  EXPECT_FALSE(Overlap(two, 2 * kPageBytes, three, kPageBytes));
  EXPECT_THAT(pool->Take(0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(pool->Take(UINT64_MAX),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(BufferPoolTest, WhatCameBackInPiecesIsTakenWhole) {
  auto pool = Pool();
  std::vector<Block> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(Taken(*pool, kMiB / 4));
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
  blocks.clear();
  const Block whole = Taken(*pool, 4 * kMiB);
  EXPECT_EQ(pool->held(), 4 * kMiB);
}

TEST_F(BufferPoolTest, ArenasGrowWithThePool) {
  auto pool = Pool();
  std::vector<Block> blocks;
  std::vector<uint64_t> held;
  for (int i = 0; i < 24; ++i) {
    blocks.push_back(Taken(*pool, kMiB));
    if (held.empty() || held.back() != pool->held()) {
      held.push_back(pool->held());
    }
  }
  EXPECT_EQ(held,
            (std::vector<uint64_t>{4 * kMiB, 8 * kMiB, 16 * kMiB, 24 * kMiB}));
}

TEST_F(BufferPoolTest, ALargeBlockHasAnArenaOfJustItsPages) {
  auto pool = Pool();
  const Block block = Taken(*pool, 20 * kMiB + 1);
  EXPECT_EQ(pool->held(), 20 * kMiB + kPageBytes);
  auto place = pool->PlaceOf(block.data, 20 * kMiB);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->arena->nbytes(), 20 * kMiB + kPageBytes);
}

TEST_F(BufferPoolTest, ThePlaceOfABlockIsItsArenaAndOffset) {
  auto pool = Pool();
  const Block first = Taken(*pool, kMiB);
  const Block second = Taken(*pool, kMiB);
  auto place = pool->PlaceOf(second.data + kPageBytes, kMiB - kPageBytes);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->arena->data() + place->offset, second.data + kPageBytes);
  EXPECT_EQ(place->arena, pool->PlaceOf(first.data, kMiB)->arena);
  EXPECT_NE(
      place->arena->number(),
      pool->PlaceOf(Taken(*pool, 9 * kMiB).data, 9 * kMiB)->arena->number());
}

TEST_F(BufferPoolTest, WhatSharesItsPagesHasNoPlace) {
  auto pool = Pool();
  const uint64_t length = 3 * kPageBytes + 7;
  const Block block = Taken(*pool, length);
  const Block beside = Taken(*pool, length);
  EXPECT_TRUE(pool->PlaceOf(block.data, length));
  EXPECT_TRUE(pool->PlaceOf(block.data, kPageBytes));
  EXPECT_TRUE(pool->PlaceOf(block.data + 3 * kPageBytes, 7));
  EXPECT_FALSE(pool->PlaceOf(block.data, length - 1));
  EXPECT_FALSE(pool->PlaceOf(block.data + 1, length - 1));
  EXPECT_FALSE(pool->PlaceOf(block.data, 4 * kPageBytes)) << "beyond its end";
  EXPECT_FALSE(pool->PlaceOf(block.data, 5 * kPageBytes)) << "two blocks";
}

TEST_F(BufferPoolTest, OtherMemoryHasNoPlace) {
  auto pool = Pool();
  const Block block = Taken(*pool, 4 * kMiB);
  int on_the_stack = 0;
  EXPECT_FALSE(pool->PlaceOf(&on_the_stack, sizeof on_the_stack));
  EXPECT_FALSE(pool->PlaceOf(block.data, 4 * kMiB + 1));
  EXPECT_FALSE(pool->PlaceOf(block.data - 1, 2));
  EXPECT_FALSE(pool->PlaceOf(block.data + 1, UINT64_MAX));
  EXPECT_FALSE(Pool()->PlaceOf(block.data, 4 * kMiB));
}

TEST_F(BufferPoolTest, BeyondTheBudgetIsRefusedByName) {
  auto pool = Pool();
  const Block block = Taken(*pool, 60 * kMiB);
  EXPECT_THAT(pool->Take(5 * kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("pool_bytes of 67108864")));
  // An arena of just its pages still fits where a usual one does not.
  EXPECT_THAT(pool->Take(3 * kMiB), IsOk());
}

TEST_F(BufferPoolTest, PoolsShareABudgetAndGiveItBack) {
  auto one = Pool(), two = Pool();
  Block block = Taken(*one, 40 * kMiB);
  EXPECT_THAT(two->Take(40 * kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted));
  one.reset();
  EXPECT_EQ(budget_->taken(), 40 * kMiB);  // the block is still out
  block = Block();
  EXPECT_EQ(budget_->taken(), 0);
  EXPECT_THAT(two->Take(40 * kMiB), IsOk());
}

TEST_F(BufferPoolTest, ForWantOfBudgetWhatIsIdleGoesFirst) {
  auto pool = Pool();
  Taken(*pool, 60 * kMiB);  // is back at once
  EXPECT_EQ(budget_->taken(), 60 * kMiB);
  const Block block = Taken(*pool, 64 * kMiB);
  EXPECT_EQ(budget_->taken(), 64 * kMiB);
}

TEST_F(BufferPoolTest, WhatIsTooSmallMakesRoomForWhatIsLarger) {
  auto pool = Pool();
  const Block kept = Taken(*pool, 10 * kMiB);
  Block small = Taken(*pool, 12 * kMiB), other = Taken(*pool, 14 * kMiB);
  small = other = Block();
  EXPECT_EQ(pool->held(), 36 * kMiB);
  const Block large = Taken(*pool, 20 * kMiB);
  EXPECT_EQ(pool->held(), 30 * kMiB);
}

TEST_F(BufferPoolTest, WhatTheSystemRefusesIsNotCounted) {
  auto pool = Pool();
  rlimit before = {};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &none);
  EXPECT_THAT(pool->Take(kMiB), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("descriptor")));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(budget_->taken(), 0);
}

TEST_F(BufferPoolTest, TrimGivesBackWhatWasIdleForLong) {
  auto pool = Pool();
  const Block kept = Taken(*pool, 10 * kMiB);
  Block first = Taken(*pool, 11 * kMiB), second = Taken(*pool, 12 * kMiB);
  first = Block();
  clock_.Advance(absl::Seconds(20));
  second = Block();
  clock_.Advance(absl::Seconds(10));
  pool->Trim();
  EXPECT_EQ(pool->held(), 22 * kMiB);
  clock_.Advance(absl::Seconds(20));
  pool->Trim();
  EXPECT_EQ(pool->held(), 10 * kMiB);
  EXPECT_EQ(budget_->taken(), 10 * kMiB);
  clock_.Advance(absl::Hours(1));
  pool->Trim();
  EXPECT_TRUE(pool->PlaceOf(kept.data, 10 * kMiB));
}

TEST_F(BufferPoolTest, AnArenaThatIsUsedAgainIsNotIdle) {
  auto pool = Pool();
  Taken(*pool, kMiB);
  clock_.Advance(absl::Seconds(29));
  Taken(*pool, kMiB);
  clock_.Advance(absl::Seconds(29));
  pool->Trim();
  EXPECT_EQ(pool->held(), 4 * kMiB);
}

TEST_F(BufferPoolTest, BlocksOutliveThePool) {
  auto pool = Pool();
  const Block block = Taken(*pool, kMiB);
  pool.reset();
  std::memset(block.data, 1, kMiB);
  EXPECT_EQ(block.data[kMiB - 1], std::byte{1});
}

TEST_F(BufferPoolTest, AFenceRetiresTheArenaUntilItsLastBlockIsBack) {
  auto pool = Pool();
  Block fenced = Taken(*pool, kMiB);
  Block beside = Taken(*pool, kMiB);
  EXPECT_THAT(pool->Fence(fenced.data, kMiB), IsOk());
  EXPECT_FALSE(pool->PlaceOf(fenced.data, kMiB));
  EXPECT_FALSE(pool->PlaceOf(beside.data, kMiB));
  std::byte* const was = fenced.data;
  fenced = Block();
  const Block next = Taken(*pool, kMiB);
  EXPECT_TRUE(next.data < was || next.data >= was + 4 * kMiB);
  EXPECT_EQ(budget_->taken(), 5 * kMiB);
  beside = Block();
  EXPECT_EQ(budget_->taken(), 4 * kMiB);
}

TEST_F(BufferPoolTest, ARetiredArenaKeepsThePagesOfItsBlocksOnly) {
  auto pool = Pool();
  Block fenced = Taken(*pool, kMiB);
  const Block beside = Taken(*pool, kMiB);
  std::memset(beside.data, 7, kMiB);
  const auto arena = pool->PlaceOf(fenced.data, kMiB)->arena;
  const auto has = [&arena] {
    struct stat file = {};
    EXPECT_EQ(fstat(arena->descriptor(), &file), 0);
    return static_cast<uint64_t>(file.st_blocks) * 512;
  };
  EXPECT_EQ(has(), 4 * kMiB);
  EXPECT_THAT(pool->Fence(fenced.data, kMiB), IsOk());
  EXPECT_EQ(has(), 2 * kMiB);
  EXPECT_EQ(budget_->taken(), 2 * kMiB);
  EXPECT_EQ(pool->held(), 2 * kMiB);
  fenced = Block();
  EXPECT_EQ(has(), kMiB);
  EXPECT_EQ(budget_->taken(), kMiB);
  EXPECT_TRUE(std::all_of(beside.data, beside.data + kMiB,
                          [](std::byte b) { return b == std::byte{7}; }));
}

TEST_F(BufferPoolTest, AFenceLeavesWhatIsBesideItsRange) {
  auto pool = Pool();
  const Block block = Taken(*pool, kMiB + 3);
  std::memset(block.data, 1, kMiB + 3);
  const uint64_t first = 2 * kPageBytes, last = kMiB;
  EXPECT_THAT(pool->Fence(block.data + first, kPageBytes), IsOk());
  EXPECT_THAT(pool->Fence(block.data + last, 3), IsOk());
  for (uint64_t i = 0; i < kMiB + 3; ++i) {
    const bool fenced = i / kPageBytes == 2 || i >= last;
    ASSERT_EQ(block.data[i], std::byte{fenced ? uint8_t{0} : uint8_t{1}}) << i;
  }
  std::memset(block.data, 2, kMiB);
  EXPECT_EQ(block.data[first], std::byte{2});
}

TEST_F(BufferPoolTest, AFenceOfOtherMemoryDoesNothing) {
  auto pool = Pool();
  int value = 7;
  EXPECT_THAT(pool->Fence(&value, sizeof value), IsOk());
  EXPECT_EQ(value, 7);
}

TEST_F(BufferPoolTest, ManyThreadsTakeAndGiveBack) {
  auto pool = Pool();
  auto work = [&pool](int seed) {
    std::mt19937 random(seed);
    const auto mark = static_cast<uint8_t>(seed);
    std::vector<std::pair<Block, uint64_t>> blocks;
    for (int step = 0; step < 300; ++step) {
      const uint64_t nbytes = 1 + random() % (kMiB / 4);
      absl::StatusOr<Block> block = pool->Take(nbytes);
      ASSERT_THAT(block, IsOk());
      std::memset(block->data, mark, nbytes);
      blocks.emplace_back(*std::move(block), nbytes);
      if (blocks.size() < 8) continue;
      const size_t at = random() % blocks.size();
      const auto& [back, size] = blocks[at];
      ASSERT_EQ(back.data[0], std::byte{mark});
      ASSERT_EQ(back.data[size - 1], std::byte{mark});
      blocks.erase(blocks.begin() + at);
      if (step % 50 == 0) pool->Trim();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  clock_.Advance(absl::Hours(1));
  pool->Trim();
  EXPECT_EQ(budget_->taken(), 0);
}

TEST(PoolBudgetTest, OfTheProcessIsNotMoreThanAQuarterOfTheMachine) {
  const uint64_t bytes = PoolBudget::OfProcess()->bytes();
  EXPECT_GT(bytes, 0);
  EXPECT_LE(bytes, static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 4);
}

TEST(PoolBudgetTest, IsNeverOverdrawn) {
  PoolBudget budget(10);
  EXPECT_THAT(budget.Take(10), IsOk());
  EXPECT_THAT(budget.Take(UINT64_MAX),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(budget.Take(1), StatusIs(absl::StatusCode::kResourceExhausted));
  budget.GiveBack(4);
  EXPECT_THAT(budget.Take(4), IsOk());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
