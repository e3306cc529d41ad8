#include "base/descriptor_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Runs with 64 descriptors.
class DescriptorBudgetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_), 0);
    const rlimit few = {64, old_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  void TearDown() override { setrlimit(RLIMIT_NOFILE, &old_); }

  rlimit old_ = {};
  DescriptorBudget& budget_ = DescriptorBudget::OfProcess();
};

TEST_F(DescriptorBudgetTest, RefusesWhatDoesNotFitWithNumbers) {
  EXPECT_THAT(budget_.Take(64, "a session"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("the descriptor budget: a session"),
                             HasSubstr("of 64 (RLIMIT_NOFILE)"))));
}

TEST_F(DescriptorBudgetTest, WhatIsClaimedIsGoneUntilTheClaimIs) {
  const int free = budget_.Free();
  ASSERT_GT(free, 2);
  {
    auto claim = budget_.Take(free - 1, "most");
    ASSERT_THAT(claim, IsOk());
    EXPECT_EQ(budget_.Free(), 1);
    EXPECT_THAT(budget_.Take(2, "more"),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_EQ(budget_.Free(), free);
}

TEST_F(DescriptorBudgetTest, WhatIsOpenCountsItself) {
  const int free = budget_.Free();
  const int fd = dup(STDIN_FILENO);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(budget_.Free(), free - 1);
  close(fd);
  EXPECT_EQ(budget_.Free(), free);
}

TEST_F(DescriptorBudgetTest, KeepsSomeBackFromClaims) {
  auto claim = budget_.Take(budget_.Free(), "all");
  ASSERT_THAT(claim, IsOk());
  std::vector<int> kept;
  for (int i = 0; i < DescriptorBudget::kKeptBack / 2; ++i) {
    kept.push_back(dup(STDIN_FILENO));
    EXPECT_GE(kept.back(), 0);
  }
  EXPECT_LT(budget_.Free(), 0);
  for (int fd : kept) close(fd);
}

}  // namespace
}  // namespace tensorferry
