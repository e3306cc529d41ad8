#include "serialization/strided.h"

#include <gtest/gtest.h>

#include <limits>

namespace tensorferry {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
const DtypeInfo& kFloat = InfoOf(Dtype::kFloat32);

uint64_t End(int64_t offset, std::vector<int64_t> sizes,
             std::vector<int64_t> strides = {},
             const DtypeInfo& dtype = kFloat) {
  uint64_t end = 0;
  EXPECT_TRUE(EndOf(dtype, offset, sizes, strides, &end));
  return end;
}

bool Fails(int64_t offset, std::vector<int64_t> sizes,
           std::vector<int64_t> strides = {}, const DtypeInfo& dtype = kFloat) {
  uint64_t end;
  return !EndOf(dtype, offset, sizes, strides, &end);
}

TEST(EndOfTest, CountsBytesToTheLastElement) {
  EXPECT_EQ(End(0, {}), 4u);
  EXPECT_EQ(End(2, {3, 4}), 56u);
  EXPECT_EQ(End(0, {3, 4}, {1, 3}), 48u);
  EXPECT_EQ(End(1, {3, 2}, {10, 1}), 4u * (1 + 22));
  EXPECT_EQ(End(0, {1000}, {0}), 4u);
  EXPECT_EQ(End(0, {5, 0}), 0u);
}

TEST(EndOfTest, CountsPackedRowsByTheByte) {
  EXPECT_EQ(End(0, {3, 5}, {}, InfoOf(Dtype::kQuint4x2)), 9u);
  EXPECT_EQ(End(0, {3, 5}, {}, InfoOf(Dtype::kQuint2x4)), 6u);
  EXPECT_EQ(End(0, {kMost}, {}, InfoOf(Dtype::kQuint4x2)), uint64_t{1} << 62);
  EXPECT_EQ(End(0, {kMost}, {}, InfoOf(Dtype::kQuint2x4)), uint64_t{1} << 61);
  EXPECT_TRUE(Fails(1, {4}, {}, InfoOf(Dtype::kQuint4x2)));
  EXPECT_TRUE(Fails(0, {4, 4}, {1, 4}, InfoOf(Dtype::kQuint4x2)));
}

TEST(EndOfTest, RefusesNegativeNumbers) {
  EXPECT_TRUE(Fails(-1, {3}));
  EXPECT_TRUE(Fails(0, {-1}));
  EXPECT_TRUE(Fails(0, {0, -1}));
  EXPECT_TRUE(Fails(0, {3}, {-1}));
  EXPECT_TRUE(Fails(0, {0}, {-1}));
}

TEST(EndOfTest, RefusesWhatOverflows) {
  EXPECT_TRUE(Fails(0, {kMost, 2}));
  EXPECT_TRUE(Fails(0, {int64_t{1} << 32, int64_t{1} << 32}));
  EXPECT_TRUE(Fails(0, {0, int64_t{1} << 32, int64_t{1} << 32}));
  EXPECT_TRUE(Fails(0, {kMost}));  // times 4 bytes
  EXPECT_TRUE(Fails(kMost, {1}));
  EXPECT_TRUE(Fails(0, {2}, {kMost}));
  EXPECT_TRUE(Fails(0, {3}, {kMost}));
  EXPECT_TRUE(Fails(0, {2, 2}, {kMost - 1, kMost - 1}));
}

TEST(EndOfTest, RefusesAnEmptyWindowWithAnOffset) {
  EXPECT_TRUE(Fails(1, {0}));
}

TEST(AreContiguousTest, ComparesWithLibtorchsStrides) {
  std::vector<int64_t> sizes = {2, 3, 4};
  EXPECT_TRUE(AreContiguous(sizes, std::vector<int64_t>{12, 4, 1}));
  EXPECT_FALSE(AreContiguous(sizes, std::vector<int64_t>{4, 8, 1}));
  EXPECT_TRUE(AreContiguous({}, {}));
  sizes = {0, 3};
  EXPECT_TRUE(AreContiguous(sizes, std::vector<int64_t>{3, 1}));
}

TEST(HasNoHolesTest, SeesPermutationsAsDenseAndGapsAsHoles) {
  std::vector<int64_t> sizes = {3, 4};
  EXPECT_TRUE(HasNoHoles(sizes, {}));
  EXPECT_TRUE(HasNoHoles(sizes, std::vector<int64_t>{1, 3}));
  EXPECT_FALSE(HasNoHoles(sizes, std::vector<int64_t>{8, 1}));
  EXPECT_FALSE(HasNoHoles(sizes, std::vector<int64_t>{1, 1}));
  EXPECT_TRUE(HasNoHoles(sizes, std::vector<int64_t>{0, 1}));
}

}  // namespace
}  // namespace tensorferry
