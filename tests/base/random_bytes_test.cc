#include "base/random_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/testing/forbid_call.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::StatusIs;

TEST(RandomBytesTest, FillsAllOfItAndNeverTwiceAlike) {
  // More than the system gives at once while a signal may interrupt it.
  std::string one(100000, '\0'), two(100000, '\0');
  EXPECT_THAT(RandomBytes(one.data(), one.size()), IsOk());
  EXPECT_THAT(RandomBytes(two.data(), two.size()), IsOk());
  EXPECT_NE(one, two);
  const std::string zeros(16, '\0');
  EXPECT_EQ(one.find(zeros), std::string::npos);
}

TEST(RandomBytesDeathTest, SaysSoWhereTheSystemGivesNone) {
  const auto run = [] {
    if (!testing::ForbidCall(SYS_getrandom)) std::exit(2);
    char byte;
    EXPECT_THAT(RandomBytes(&byte, 1),
                StatusIs(absl::StatusCode::kInternal,
                         ::testing::HasSubstr("getrandom")));
    std::exit(::testing::Test::HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tensorferry
