#include "base/status_macros.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::IsOkAndHolds;
using testing::StatusIs;

absl::StatusOr<int> Double(absl::StatusOr<std::unique_ptr<int>> input) {
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<int> value, std::move(input));
  FERRY_RETURN_IF_ERROR(*value < 0 ? absl::OutOfRangeError("negative")
                                   : absl::OkStatus());
  return *value * 2;
}

TEST(StatusMacrosTest, GoOnWhenOk) {
  EXPECT_THAT(Double(std::make_unique<int>(4)), IsOkAndHolds(8));
}

TEST(StatusMacrosTest, ReturnTheErrorOtherwise) {
  EXPECT_THAT(Double(absl::NotFoundError("gone")),
              StatusIs(absl::StatusCode::kNotFound, "gone"));
  EXPECT_THAT(Double(std::make_unique<int>(-1)),
              StatusIs(absl::StatusCode::kOutOfRange, "negative"));
}

}  // namespace
}  // namespace tensorferry
