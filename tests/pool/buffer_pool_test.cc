#include "pool/buffer_pool.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::IsOk;

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(BufferPoolTest, ABlockThatCameBackIsHandedOutAgain) {
  auto budget = std::make_shared<PoolBudget>(64 * kMiB);
  auto pool = BufferPool::Create({.budget = budget});
  absl::StatusOr<BufferPool::Block> block = pool->Take(kMiB);
  ASSERT_THAT(block, IsOk());
  std::byte* const first = block->data;
  std::memset(first, 1, kMiB);
  block = BufferPool::Block();
  block = pool->Take(kMiB);
  ASSERT_THAT(block, IsOk());
  EXPECT_EQ(block->data, first);
  ASSERT_TRUE(pool->PlaceOf(first, kMiB));
  EXPECT_THAT(pool->Fence(first + 5000, 10000), IsOk());
  EXPECT_FALSE(pool->PlaceOf(first, kMiB));
  EXPECT_EQ(first[4999], std::byte{1});
  EXPECT_EQ(first[5000], std::byte{0});
  EXPECT_EQ(first[14999], std::byte{0});
  EXPECT_EQ(first[15000], std::byte{1});
  EXPECT_EQ(budget->taken(), 4 * kMiB);
  block = BufferPool::Block();
  EXPECT_EQ(budget->taken(), 0);
}

}  // namespace
}  // namespace tensorferry
