#include "base/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOkAndHolds;
using testing::StatusIs;

const DeviceId kCpu;
const DeviceId kCuda0{"cuda", 0};
const DeviceId kCuda1{"cuda", 1};

Placement PlacementOf(std::vector<std::string> rules) {
  Placement placement;
  for (const std::string& text : rules) {
    auto rule = ParsePlacementRule(text);
    EXPECT_THAT(rule, testing::IsOk());
    placement.rules.push_back(*rule);
  }
  return placement;
}

absl::StatusOr<DeviceId> TargetFor(const Placement& placement,
                                   const DeviceId& source,
                                   absl::string_view name) {
  int64_t steps = kMatchSteps;
  return placement.TargetFor(source, name, &steps);
}

TEST(GlobTest, MatchesStarsAndQuestionMarks) {
  EXPECT_TRUE(GlobMatches("*", ""));
  EXPECT_TRUE(GlobMatches("*", "anything"));
  EXPECT_TRUE(GlobMatches("a.*.w", "a.b.c.w"));
  EXPECT_TRUE(GlobMatches("a*b*c", "aXbXbXc"));
  EXPECT_TRUE(GlobMatches("layer.?", "layer.7"));
  EXPECT_FALSE(GlobMatches("layer.?", "layer.12"));
  EXPECT_FALSE(GlobMatches("a*b", "aXc"));
  EXPECT_FALSE(GlobMatches("", "a"));
  EXPECT_FALSE(GlobMatches("abc", "ab"));
  EXPECT_FALSE(GlobMatches("ab", "abc"));
}

TEST(GlobTest, IsNotExponential) {
  std::string glob, text(2000, 'a');
  for (int i = 0; i < 500; ++i) glob += "*a";
  EXPECT_FALSE(GlobMatches(glob + "b", text));
}

TEST(PlacementTest, KeepsTheCpuOnTheCpuWithoutRules) {
  EXPECT_THAT(TargetFor(Placement(), kCpu, "w"), IsOkAndHolds(kCpu));
}

TEST(PlacementTest, NamesTheRuleThatIsMissing) {
  EXPECT_THAT(TargetFor(Placement(), kCuda1, "w"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("\"w\""), HasSubstr("cuda:1=cpu"))));
}

TEST(PlacementTest, TakesTheFirstRuleThatMatches) {
  Placement placement =
      PlacementOf({"decoder.*=cuda:1", "cpu=cuda:0", "*=cpu"});
  EXPECT_THAT(TargetFor(placement, kCpu, "decoder.w"), IsOkAndHolds(kCuda1));
  EXPECT_THAT(TargetFor(placement, kCpu, "w"), IsOkAndHolds(kCuda0));
  EXPECT_THAT(TargetFor(placement, kCuda0, "w"), IsOkAndHolds(kCpu));
}

TEST(PlacementTest, NameRulesLeaveUnnamedTensorsAlone) {
  EXPECT_THAT(TargetFor(PlacementOf({"*=cuda:0"}), kCpu, ""),
              IsOkAndHolds(kCpu));
}

TEST(PlacementTest, EndsWhenItsStepsAreUsedUp) {
  Placement stars = PlacementOf({"*a*a*a*b=cuda:0"});
  const std::string name(100, 'a');
  int64_t steps = kMatchSteps;
  EXPECT_THAT(stars.TargetFor(kCpu, name, &steps), IsOkAndHolds(kCpu));
  EXPECT_LT(steps, kMatchSteps - 100);
  steps = 50;
  EXPECT_THAT(stars.TargetFor(kCpu, name, &steps),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("steps"), HasSubstr("name rules"))));
  // Device rules cost a step each as well.
  Placement devices = PlacementOf({"cuda:0=cpu", "cuda:1=cpu", "cpu=cuda:1"});
  steps = 2;
  EXPECT_THAT(devices.TargetFor(kCpu, "", &steps),
              StatusIs(absl::StatusCode::kResourceExhausted));
  steps = 3;
  EXPECT_THAT(devices.TargetFor(kCpu, "", &steps), IsOkAndHolds(kCuda1));
}

TEST(PlacementRuleTest, TellsDevicesFromNames) {
  for (const char* device : {"cpu", "cuda", "cuda:3", "xpu:0"}) {
    EXPECT_THAT(ParsePlacementRule(std::string(device) + "=cpu")->kind,
                PlacementRule::Kind::kDevice)
        << device;
  }
  for (const char* name : {"weight", "name:cuda:0", "*", "a:b", "x=y"}) {
    EXPECT_THAT(ParsePlacementRule(std::string(name) + "=cpu")->kind,
                PlacementRule::Kind::kName)
        << name;
  }
}

TEST(PlacementRuleTest, ReadsWhatItWrites) {
  for (const char* text : {"cpu=cuda:1", "cuda:0=cpu", "encoder.*=cuda:1",
                           "name:cpu=cuda:0", "name:name:x=cpu"}) {
    FERRY_ASSERT_OK_AND_ASSIGN(PlacementRule rule, ParsePlacementRule(text));
    EXPECT_EQ(ToString(rule), text);
    EXPECT_THAT(ParsePlacementRule(ToString(rule)), IsOkAndHolds(rule));
  }
}

TEST(PlacementRuleTest, RefusesWhatIsNoRule) {
  for (const char* text : {"", "cpu", "=cpu", "name:=cpu", "cpu=",
                           "cuda:200=cpu", "cpu=nowhere!", "w=cuda:-1"}) {
    EXPECT_THAT(
        ParsePlacementRule(text),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("SRC=DST")))
        << text;
  }
}

TEST(InvertTest, SwapsBothSides) {
  EXPECT_THAT(Invert(PlacementOf({"cuda:0=cuda:1", "cuda:1=cpu"})),
              IsOkAndHolds(PlacementOf({"cuda:1=cuda:0", "cpu=cuda:1"})));
  EXPECT_THAT(Invert(Placement()), IsOkAndHolds(Placement()));
}

TEST(InvertTest, IgnoresRulesThatNeverMatch) {
  EXPECT_THAT(
      Invert(PlacementOf({"cuda:0=cuda:1", "cuda:2=cuda:3", "cuda:2=cuda:1"})),
      IsOkAndHolds(PlacementOf({"cuda:1=cuda:0", "cuda:3=cuda:2"})));
}

TEST(InvertTest, RefusesTwoSourcesWithOneTarget) {
  EXPECT_THAT(Invert(PlacementOf({"cuda:0=cpu", "cuda:1=cpu"})),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("cuda:0"), HasSubstr("cuda:1"))));
}

TEST(InvertTest, RefusesNames) {
  EXPECT_THAT(
      Invert(PlacementOf({"w.*=cpu"})),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("w.*=cpu")));
}

}  // namespace
}  // namespace tensorferry
