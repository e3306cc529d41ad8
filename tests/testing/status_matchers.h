#ifndef TENSORFERRY_TESTS_TESTING_STATUS_MATCHERS_H_
#define TENSORFERRY_TESTS_TESTING_STATUS_MATCHERS_H_

#include <gmock/gmock.h>

#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Matchers for absl::Status and absl::StatusOr:
//   EXPECT_THAT(DoIt(), IsOk());
//   EXPECT_THAT(Count(), IsOkAndHolds(7));
//   EXPECT_THAT(DoIt(), StatusIs(absl::StatusCode::kNotFound));
//   EXPECT_THAT(DoIt(), StatusIs(absl::StatusCode::kNotFound,
//                                HasSubstr("cuda:3")));
//   FERRY_ASSERT_OK_AND_ASSIGN(Plan plan, Negotiate(...));
namespace tensorferry {
namespace testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <class T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

MATCHER_P2(StatusIs, code, message,
           "has status code " + absl::StatusCodeToString(code)) {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()),
                                       result_listener);
}

inline auto StatusIs(absl::StatusCode code) {
  return StatusIs(code, ::testing::_);
}

MATCHER_P(IsOkAndHolds, value, "is OK and holds a matching value") {
  if (!arg.ok()) {
    *result_listener << "which is " << arg.status().ToString();
    return false;
  }
  using Value = std::decay_t<decltype(*arg)>;
  return ::testing::ExplainMatchResult(
      ::testing::SafeMatcherCast<const Value&>(value), *arg, result_listener);
}

}  // namespace testing
}  // namespace tensorferry

#define FERRY_TESTING_CONCAT_INNER_(a, b) a##b
#define FERRY_TESTING_CONCAT_(a, b) FERRY_TESTING_CONCAT_INNER_(a, b)
#define FERRY_ASSERT_OK_AND_ASSIGN(lhs, expr)                                  \
  FERRY_ASSERT_OK_AND_ASSIGN_(FERRY_TESTING_CONCAT_(ferry_or_, __LINE__), lhs, \
                              expr)
#define FERRY_ASSERT_OK_AND_ASSIGN_(statusor, lhs, expr) \
  auto statusor = (expr);                                \
  ASSERT_THAT(statusor, ::tensorferry::testing::IsOk()); \
  lhs = *std::move(statusor)

#endif  // TENSORFERRY_TESTS_TESTING_STATUS_MATCHERS_H_
