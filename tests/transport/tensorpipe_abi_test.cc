#include "transport/tensorpipe_abi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;
using ::testing::UnorderedElementsAre;

TEST(TensorpipeAbiTest, IsTheOneThatTheTransportWasWrittenFor) {
  EXPECT_THAT(CheckTensorpipeAbi(), IsOk());
}

TEST(TensorpipeAbiTest, LooksAtAllClassesOfTransportsAndChannels) {
  std::vector<std::string> classes;
  for (const VirtualTable& table : TensorpipeVirtualTables()) {
    classes.push_back(table.of);
  }
  EXPECT_THAT(classes, UnorderedElementsAre(
                           HasSubstr("9transport21ConnectionBoilerplate"),
                           HasSubstr("9transport19ListenerBoilerplate"),
                           HasSubstr("9transport18ContextBoilerplate"),
                           HasSubstr("7channel18ChannelBoilerplate"),
                           HasSubstr("7channel18ContextBoilerplate")));
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
  EXPECT_THAT(CheckVirtualTable({.of = "4Gone"}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace tensorferry
