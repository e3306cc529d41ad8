#include "transport/tensorpipe_abi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(TensorpipeAbiTest, IsTheOneThatTheTransportWasWrittenFor) {
  EXPECT_THAT(CheckTensorpipeAbi(), IsOk());
}

TEST(TensorpipeAbiTest, NoticesFunctionsInAnotherOrder) {
  for (VirtualTable table : TensorpipeVirtualTables()) {
    EXPECT_THAT(CheckVirtualTable(table), IsOk());
    std::swap(table.functions[0], table.functions[1]);
    EXPECT_THAT(CheckVirtualTable(table),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("function 0")));
  }
}

TEST(TensorpipeAbiTest, NoticesAClassThatIsGone) {
  EXPECT_THAT(CheckVirtualTable({.symbol = "_ZTV4Gone"}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace tensorferry
