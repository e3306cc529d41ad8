#include "base/ptrace_scope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(WhyPtraceRefusesTest, UnrelatedPeersNeedScope0OrTheCapability) {
  EXPECT_THAT(WhyPtraceRefuses(0, /*capable=*/false), IsEmpty());
  EXPECT_THAT(WhyPtraceRefuses(1, /*capable=*/false),
              HasSubstr("ptrace_scope is 1"));
  EXPECT_THAT(WhyPtraceRefuses(2, /*capable=*/false), HasSubstr("set it to 0"));
  EXPECT_THAT(WhyPtraceRefuses(1, /*capable=*/true), IsEmpty());
  EXPECT_THAT(WhyPtraceRefuses(2, /*capable=*/true), IsEmpty());
}

TEST(WhyPtraceRefusesTest, NobodyPassesScope3) {
  EXPECT_THAT(WhyPtraceRefuses(3, /*capable=*/true), HasSubstr("is 3"));
}

}  // namespace
}  // namespace tensorferry
