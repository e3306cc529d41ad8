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

}  // namespace
}  // namespace tensorferry
