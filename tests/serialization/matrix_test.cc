#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

using testing::Aliasing;
using testing::Difference;
using testing::MatrixCase;
using testing::MessageOf;
using testing::RoundTrip;
using testing::TensorMatrix;

void ExpectSame(const std::vector<at::Tensor>& got,
                const std::vector<at::Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(Difference(want[i], got[i]), "") << "tensor " << i;
  }
}

TEST(MatrixTest, EveryKindOfTensorComesBackAsItWas) {
  int cases = 0;
  for (const MatrixCase& one : TensorMatrix()) {
    SCOPED_TRACE(one.name);
    FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got,
                               RoundTrip(MessageOf(one.tensors)));
    ExpectSame(got.tensors, one.tensors);
    EXPECT_EQ(Aliasing(got.tensors), Aliasing(one.tensors));
    ++cases;
  }
  EXPECT_GT(cases, 44 * (12 + 5));  // dtypes, views, layouts
}

// What is written through one tensor shows in the others just as it does in
// those that were sent.
TEST(MatrixTest, WritingThroughAnAliasShowsInTheOthers) {
  int cases = 0;
  for (const MatrixCase& one : TensorMatrix()) {
    if (one.tensors.size() == 1) continue;
    SCOPED_TRACE(one.name);
    FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got,
                               RoundTrip(MessageOf(one.tensors)));
    for (size_t i = 0; i < one.tensors.size(); ++i) {
      for (const at::Tensor& tensor : {one.tensors[i], got.tensors[i]}) {
        std::memset(tensor.data_ptr(), static_cast<int>(i) + 1,
                    tensor.element_size());
      }
      ExpectSame(got.tensors, one.tensors);
    }
    ++cases;
  }
  EXPECT_GE(cases, 8);
}

}  // namespace
}  // namespace tensorferry
