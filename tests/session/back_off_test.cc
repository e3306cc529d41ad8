#include "session/back_off.h"

#include <gtest/gtest.h>

#include <optional>

#include "absl/status/status.h"

namespace tensorferry {
namespace {

const absl::Status kGone = absl::UnavailableError("gone");

TEST(BackOffTest, PausesGrowUpToTheLongest) {
  BackOff back_off({.first = absl::Milliseconds(100),
                    .longest = absl::Milliseconds(350),
                    .growth = 2,
                    .jitter = 0},
                   1);
  for (int want : {100, 200, 350, 350}) {
    EXPECT_EQ(back_off.After(kGone), absl::Milliseconds(want));
  }
  for (int i = 0; i < 5000; ++i) back_off.After(kGone);
  EXPECT_EQ(back_off.After(kGone), absl::Milliseconds(350));
}

TEST(BackOffTest, BeginsAnewOnceItWorked) {
  BackOff back_off({.first = absl::Seconds(1), .jitter = 0}, 1);
  back_off.After(kGone);
  back_off.After(kGone);
  back_off.Reset();
  EXPECT_EQ(back_off.After(kGone), absl::Seconds(1));
}

TEST(BackOffTest, JitterKeepsPeersApart) {
  const BackOffOptions options{.first = absl::Seconds(1), .jitter = 0.5};
  BackOff one(options, 1), other(options, 2);
  const auto pause = one.After(kGone);
  EXPECT_NE(pause, other.After(kGone));
  EXPECT_GE(pause, absl::Milliseconds(500));
  EXPECT_LE(pause, absl::Milliseconds(1500));
}

TEST(BackOffTest, GivesUpAfterEnoughAttempts) {
  BackOff back_off({.attempts = 3}, 1);
  EXPECT_NE(back_off.After(kGone), std::nullopt);
  EXPECT_NE(back_off.After(kGone), std::nullopt);
  EXPECT_EQ(back_off.After(kGone), std::nullopt);
}

TEST(BackOffTest, OnlyWhatMayPassIsTriedAgain) {
  BackOff back_off({}, 1);
  EXPECT_NE(back_off.After(absl::DeadlineExceededError("")), std::nullopt);
  EXPECT_NE(back_off.After(absl::ResourceExhaustedError("")), std::nullopt);
  EXPECT_EQ(back_off.After(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(back_off.After(absl::CancelledError("")), std::nullopt);
  EXPECT_EQ(back_off.After(absl::FailedPreconditionError("")), std::nullopt);
  EXPECT_EQ(back_off.After(absl::UnauthenticatedError("")), std::nullopt);
  EXPECT_EQ(back_off.After(absl::InvalidArgumentError("")), std::nullopt);
}

}  // namespace
}  // namespace tensorferry
