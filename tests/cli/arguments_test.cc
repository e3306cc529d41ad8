#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry::cli {
namespace {

using ::tensorferry::testing::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Words = std::vector<std::string>;

const std::vector<Flag>& TestFlags() {
  static const auto* const flags =
      new std::vector<Flag>{{"out", "FILE", ""},
                            {"ready_file", "PATH", ""},
                            {"map", "SRC=DST", "", true},
                            {"json", "", ""}};
  return *flags;
}

absl::StatusOr<Arguments> Parse(
    const Words& words, const Words& positionals = {},
    const std::map<std::string, std::string>& variables = {}) {
  return Arguments::Parse(
      TestFlags(), positionals, words,
      [&](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
      });
}

MATCHER_P(IsUsageErrorThatSays, text, "") {
  *result_listener << arg.status();
  return IsUsageError(arg.status()) &&
         ::testing::Value(std::string(arg.status().message()), HasSubstr(text));
}

TEST(ArgumentsTest, TakesFlagsAndPositionalsInAnyOrder) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      Arguments arguments,
      Parse({"--out", "a", "127.0.0.1:1", "--map=x=y", "--json", "--map", "z"},
            {"ADDRESS"}));
  EXPECT_EQ(arguments.positional(0), "127.0.0.1:1");
  EXPECT_EQ(arguments.Get("out"), "a");
  EXPECT_THAT(arguments.All("map"), ElementsAre("x=y", "z"));
  EXPECT_TRUE(arguments.Has("json"));
  EXPECT_FALSE(arguments.Has("ready_file"));
  EXPECT_EQ(arguments.Get("ready_file", "none"), "none");
}

TEST(ArgumentsTest, DashesAreAsGoodAsUnderscores) {
  FERRY_ASSERT_OK_AND_ASSIGN(Arguments arguments,
                             Parse({"--ready-file", "my-path"}));
  EXPECT_EQ(arguments.Get("ready_file"), "my-path");
}

TEST(ArgumentsTest, AfterTwoDashesThereAreOnlyPositionals) {
  FERRY_ASSERT_OK_AND_ASSIGN(Arguments arguments,
                             Parse({"--", "--out"}, {"FILE"}));
  EXPECT_EQ(arguments.positional(0), "--out");
}

TEST(ArgumentsTest, SaysWhatIsWrongAndWhatWasMeant) {
  EXPECT_THAT(Parse({"--ouy", "x"}), IsUsageErrorThatSays("mean --out?"));
  EXPECT_THAT(Parse({"--frobnicate"}), IsUsageErrorThatSays("--frobnicate"));
  EXPECT_THAT(Parse({"-o"}), IsUsageErrorThatSays("--o"));
  EXPECT_THAT(Parse({"--out"}), IsUsageErrorThatSays("value: FILE"));
  EXPECT_THAT(Parse({"--out", "--json"}), IsUsageErrorThatSays("value: FILE"));
  EXPECT_THAT(Parse({"--json=on"}), IsUsageErrorThatSays("takes no value"));
  EXPECT_THAT(Parse({"--out", "a", "--out", "b"}),
              IsUsageErrorThatSays("twice"));
  EXPECT_THAT(Parse({}, {"ADDRESS"}),
              IsUsageErrorThatSays("ADDRESS is missing"));
  EXPECT_THAT(Parse({"a", "b"}, {"ADDRESS"}), IsUsageErrorThatSays("\"b\""));
}

TEST(ArgumentsTest, ANeededFlagMayNotBeMissing) {
  const std::vector<Flag> flags = {{"out", "FILE", "", false, true}};
  const auto parse = [&flags](std::optional<std::string> variable) {
    return Arguments::Parse(flags, {}, {},
                            [&](const std::string&) { return variable; });
  };
  EXPECT_THAT(parse({}), IsUsageErrorThatSays("--out FILE is missing"));
  EXPECT_THAT(parse("x"), IsOk());
}

TEST(ArgumentsTest, VariablesStandInForFlagsThatAreNotGiven) {
  FERRY_ASSERT_OK_AND_ASSIGN(Arguments arguments,
                             Parse({"--out", "flag"}, {},
                                   {{"TENSORFERRY_OUT", "variable"},
                                    {"TENSORFERRY_READY_FILE", "ready"},
                                    {"TENSORFERRY_MAP", "a=b,c=d"},
                                    {"TENSORFERRY_JSON", "1"}}));
  EXPECT_EQ(arguments.Get("out"), "flag");
  EXPECT_EQ(arguments.Get("ready_file"), "ready");
  EXPECT_THAT(arguments.All("map"), ElementsAre("a=b", "c=d"));
  EXPECT_TRUE(arguments.Has("json"));
}

TEST(ArgumentsTest, AVariableThatIsNoSwitchIsNamed) {
  EXPECT_THAT(Parse({}, {}, {{"TENSORFERRY_JSON", "maybe"}}),
              IsUsageErrorThatSays("TENSORFERRY_JSON"));
  FERRY_ASSERT_OK_AND_ASSIGN(Arguments off,
                             Parse({}, {}, {{"TENSORFERRY_JSON", "off"}}));
  EXPECT_FALSE(off.Has("json"));
}

TEST(ArgumentsTest, FindsTheNearestWordOrNone) {
  const Words commands = {"serve", "list", "pull", "push"};
  EXPECT_EQ(Nearest("pul", commands), "pull");
  EXPECT_EQ(Nearest("lsit", commands), "list");
  EXPECT_EQ(Nearest("completely", commands), "");
}

}  // namespace
}  // namespace tensorferry::cli
