#include "pool/lease_space.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::StatusIs;

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(LeaseSpaceTest, RangesAreOrdinaryMemory) {
  auto space = LeaseSpace::Create();
  FERRY_ASSERT_OK_AND_ASSIGN(LeaseSpace::Range range,
                             space->Reserve(5 * kMiB + 1));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(range.data) % (2 * kMiB), 0u);
  EXPECT_EQ(range.data[5 * kMiB], std::byte{0});
  std::memset(range.data, 7, 5 * kMiB + 1);
  EXPECT_EQ(range.data[5 * kMiB], std::byte{7});
}

TEST(LeaseSpaceTest, HasWhatBeginsARangeUntilItGoes) {
  auto space = LeaseSpace::Create();
  FERRY_ASSERT_OK_AND_ASSIGN(LeaseSpace::Range range, space->Reserve(kMiB));
  EXPECT_TRUE(space->Has(range.data, kMiB));
  EXPECT_TRUE(space->Has(range.data, 1));
  EXPECT_FALSE(space->Has(range.data, kMiB + 1));
  EXPECT_FALSE(space->Has(range.data + 4096, 1));
  EXPECT_FALSE(space->Has(&space, 1));
  const void* const data = range.data;
  range = {};
  EXPECT_FALSE(space->Has(data, 1));
}

TEST(LeaseSpaceTest, HasNothingThatIsNotOpenAnyMore) {
  auto space = LeaseSpace::Create();
  FERRY_ASSERT_OK_AND_ASSIGN(LeaseSpace::Range range, space->Reserve(kMiB));
  range.open = nullptr;
  EXPECT_FALSE(space->Has(range.data, 1));
  std::memset(range.data, 7, kMiB);
}

TEST(LeaseSpaceTest, RangesOutliveIt) {
  auto space = LeaseSpace::Create();
  FERRY_ASSERT_OK_AND_ASSIGN(LeaseSpace::Range range, space->Reserve(kMiB));
  space = nullptr;
  std::memset(range.data, 7, kMiB);
}

TEST(LeaseSpaceTest, TheProcessHasSoManyRangesAndNoMore) {
  auto space = LeaseSpace::Create(), other = LeaseSpace::Create();
  std::vector<LeaseSpace::Range> ranges;
  while (LeaseSpace::Left() > 0) {
    auto range = (ranges.size() % 2 == 0 ? space : other)->Reserve(1);
    ASSERT_THAT(range, testing::IsOk());
    ranges.push_back(*std::move(range));
  }
  EXPECT_EQ(ranges.size(), LeaseSpace::kMostRanges);
  EXPECT_THAT(space->Reserve(1),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ranges.pop_back();
  EXPECT_EQ(LeaseSpace::Left(), 1u);
  EXPECT_THAT(space->Reserve(1), testing::IsOk());
}

TEST(LeaseSpaceTest, NoRoomIsSaid) {
  auto space = LeaseSpace::Create();
  for (const uint64_t nbytes : {uint64_t{1} << 60, UINT64_MAX - 4 * kMiB}) {
    EXPECT_THAT(space->Reserve(nbytes),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_THAT(space->Reserve(0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(space->Reserve(UINT64_MAX),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace tensorferry
