#include "base/descriptor_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>
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

// Whether a child counts its own descriptors, and none of the parent's claims.
bool CountsItsOwn(int claimed, int free, DescriptorBudget::Claim claim) {
  alarm(60);
  const int before = DescriptorBudget::OfProcess().Free();
  // The copy of the parent's directory is open, too.
  if (before != free + claimed - 1) return false;
  if (dup(STDIN_FILENO) < 0) return false;
  { const DescriptorBudget::Claim dropped = std::move(claim); }
  return DescriptorBudget::OfProcess().Free() == before - 1;
}

TEST_F(DescriptorBudgetTest, AForkedChildHasItsOwn) {
  constexpr int kClaimed = 5;
  auto claim = budget_.Take(kClaimed, "the parent");
  ASSERT_THAT(claim, IsOk());
  const int free = budget_.Free();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    _exit(CountsItsOwn(kClaimed, free, *std::move(claim)) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);  // its alarm bounds this
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
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
