#include "control/grpc_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

TEST(GrpcStatusTest, EveryCodeGoesThereAndBack) {
  for (int code = 0; code <= 16; ++code) {
    absl::Status status(static_cast<absl::StatusCode>(code),
                        code == 0 ? "" : "why");
    grpc::Status converted = ToGrpcStatus(status);
    EXPECT_EQ(converted.error_code(), code);
    EXPECT_EQ(FromGrpcStatus(converted), status);
  }
}

TEST(GrpcStatusTest, CodesNobodyKnowsAreUnknown) {
  for (int code : {17, 31, -1}) {
    EXPECT_THAT(FromGrpcStatus(
                    grpc::Status(static_cast<grpc::StatusCode>(code), "why")),
                StatusIs(absl::StatusCode::kUnknown, "why"));
  }
}

TEST(GrpcStatusTest, TerminalsHaveNothingToActOn) {
  EXPECT_THAT(FromGrpcStatus(grpc::Status(grpc::StatusCode::NOT_FOUND,
                                          "one\ntwo\x1b[2J\xff")),
              StatusIs(absl::StatusCode::kNotFound, "one\ntwo?[2J?"));
}

TEST(GrpcStatusTest, LongMessagesFitIntoHeaders) {
  grpc::Status converted =
      ToGrpcStatus(absl::InternalError(std::string(1 << 20, 'x')));
  EXPECT_LT(converted.error_message().size(), 4096u);
  EXPECT_THAT(converted.error_message(),
              ::testing::EndsWith("(1048576 bytes in all)"));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
