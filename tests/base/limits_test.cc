#include "base/limits.h"

#include <gtest/gtest.h>

#include <cstring>

namespace tensorferry {
namespace {

TEST(LimitsTest, SmallerTakesEachFieldFromTheSmallerSide) {
  Limits a, b;
  a.tensors = 3;
  b.message_bytes = 10;
  Limits smaller = Smaller(a, b);
  EXPECT_EQ(smaller.tensors, 3);
  EXPECT_EQ(smaller.message_bytes, 10);
  EXPECT_EQ(smaller, Smaller(b, a));
}

// A field that Smaller forgets keeps its default and is seen here.
TEST(LimitsTest, SmallerKnowsEveryField) {
  Limits zero;
  std::memset(static_cast<void*>(&zero), 0, sizeof(zero));
  EXPECT_EQ(Smaller(zero, Limits()), zero);
}

TEST(LimitsTest, AreSetByTheirNames) {
  Limits limits;
  EXPECT_TRUE(SetLimit("message_bytes", 5, limits).ok());
  EXPECT_TRUE(SetLimit("body_lanes", 2, limits).ok());
  EXPECT_EQ(limits.message_bytes, 5u);
  EXPECT_EQ(limits.body_lanes, 2u);
  const absl::Status unknown = SetLimit("warp", 9, limits);
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find(LimitNames()), std::string::npos);
  EXPECT_EQ(SetLimit("rank", uint64_t{1} << 32, limits).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Smaller(limits, Unlimited()), limits);
}

TEST(LimitsTest, AreToldByTheirNames) {
  Limits again = Unlimited();
  const Limits limits;
  for (const auto& [name, value] : NamedLimits(limits)) {
    EXPECT_TRUE(SetLimit(name, value, again).ok()) << name;
  }
  EXPECT_EQ(again, limits);
}

}  // namespace
}  // namespace tensorferry
