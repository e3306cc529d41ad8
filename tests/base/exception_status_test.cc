#include "base/exception_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <system_error>

#include "absl/status/statusor.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ExceptionStatusTest, WhatIsThrownIsAStatusThatNamesTheThrower) {
  EXPECT_THAT(CatchExceptions("a handler", [] {}), IsOk());
  EXPECT_THAT(
      CatchExceptions("a handler", [] { throw std::runtime_error("why"); }),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("a handler threw: why")));
  EXPECT_THAT(CatchExceptions("a handler", [] { throw 7; }),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("a handler")));
}

TEST(ExceptionStatusTest, WhatIsReturnedIsGivenOnUnlessSomethingIsThrown) {
  const auto half = [](int n) -> absl::StatusOr<int> {
    if (n == 0) throw std::runtime_error("nothing");
    if (n % 2 != 0) return absl::InvalidArgumentError("odd");
    return n / 2;
  };
  EXPECT_EQ(*CatchExceptions("halving", [&] { return half(6); }), 3);
  EXPECT_THAT(CatchExceptions("halving", [&] { return half(7); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("odd")));
  EXPECT_THAT(CatchExceptions("halving", [&] { return half(0); }),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("halving threw: nothing")));
}

TEST(ExceptionStatusTest, NoThreadIsAnExhaustedResource) {
  EXPECT_THAT(CatchExceptions("a start",
                              [] {
                                throw std::system_error(std::make_error_code(
                                    std::errc::resource_unavailable_try_again));
                              }),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("a start got no thread")));
  EXPECT_THAT(CatchExceptions("a start",
                              [] {
                                throw std::system_error(std::make_error_code(
                                    std::errc::permission_denied));
                              }),
              StatusIs(absl::StatusCode::kInternal));
}

TEST(ExceptionStatusTest, NoMemoryIsAnExhaustedResource) {
  EXPECT_THAT(CatchExceptions("the host", [] { throw std::bad_alloc(); }),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the host ran out of memory")));
}

}  // namespace
}  // namespace tensorferry
