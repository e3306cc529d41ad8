#include "session/plan_rules.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A type whose guard has no pool of streams.
struct GuardWithoutPool final
    : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {};
C10_REGISTER_GUARD_IMPL(PrivateUse1, GuardWithoutPool);

absl::StatusOr<TransferRules> RulesWith(const std::string& device,
                                        StreamKind kind) {
  SessionPlan plan;
  plan.caller_streams = {{*ParseDeviceId(device), kind}};
  return RulesFor(plan, Side::kCaller, "id");
}

c10::Stream DefaultOf(const std::string& device) {
  return c10::Stream(c10::Stream::DEFAULT, c10::Device(device));
}

TEST(PlanRulesTest, WithoutAPoolADeviceHasItsDefaultStream) {
  // The other type has no guard at all.
  for (const std::string device : {"privateuseone:0", "hpu:1"}) {
    for (StreamKind kind : {StreamKind::kPool, StreamKind::kDefault}) {
      FERRY_ASSERT_OK_AND_ASSIGN(TransferRules rules, RulesWith(device, kind));
      EXPECT_THAT(rules.send_streams, ElementsAre(DefaultOf(device)));
      EXPECT_THAT(rules.receive_streams, ElementsAre(DefaultOf(device)));
    }
  }
}

TEST(PlanRulesTest, AStreamOfHighPriorityThatIsNotThereIsRefused) {
  for (const std::string device : {"privateuseone:0", "hpu:1"}) {
    EXPECT_THAT(RulesWith(device, StreamKind::kHighPriority),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("no stream on " + device)));
  }
}

TEST(PlanRulesTest, EachSideKnowsAsWhatItsOwnDevicesCross) {
  SessionPlan plan;
  plan.caller_carried = {{{"npu", 0}, {"cuda", 0}}};
  plan.callee_carried = {{{"npu", 1}, {"cuda", 1}}};
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules caller,
                             RulesFor(plan, Side::kCaller, "id"));
  EXPECT_EQ(caller.own_carried, plan.caller_carried);
  EXPECT_EQ(caller.peer_carried, plan.callee_carried);
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules callee,
                             RulesFor(plan, Side::kCallee, "id"));
  EXPECT_EQ(callee.own_carried, plan.callee_carried);
  EXPECT_EQ(callee.peer_carried, plan.caller_carried);
}

TEST(PlanRulesTest, EachSideKnowsWhichPairsGoThroughHostMemory) {
  SessionPlan plan;
  plan.caller_carried = {{{"npu", 0}, {"cuda", 0}}};
  plan.paths = {{.caller_device = {"npu", 0},
                 .callee_device = {"cuda", 1},
                 .through_host = true},
                {.caller_device = {"npu", 0}, .callee_device = {"cuda", 2}}};
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules caller,
                             RulesFor(plan, Side::kCaller, "id"));
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules callee,
                             RulesFor(plan, Side::kCallee, "id"));
  const DeviceId cpu;
  for (const Crossing& crossing :
       {CrossingOf(caller, {"npu", 0}, {"cuda", 1}),
        CrossingOf(callee, {"cuda", 1}, {"npu", 0})}) {
    EXPECT_EQ(crossing.own, cpu);
    EXPECT_EQ(crossing.peer, cpu);
    EXPECT_TRUE(crossing.copied);
  }
  const Crossing direct = CrossingOf(caller, {"npu", 0}, {"cuda", 2});
  EXPECT_EQ(direct.own, (DeviceId{"cuda", 0}));
  EXPECT_EQ(direct.peer, (DeviceId{"cuda", 2}));
  EXPECT_FALSE(direct.copied);
}

TEST(PlanRulesTest, OnlyTheSideWithTheGpuCopies) {
  SessionPlan plan;
  plan.paths = {{.caller_device = {"cuda", 0}, .through_host = true}};
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules caller,
                             RulesFor(plan, Side::kCaller, "id"));
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules callee,
                             RulesFor(plan, Side::kCallee, "id"));
  EXPECT_TRUE(CrossingOf(caller, {"cuda", 0}, {}).copied);
  EXPECT_FALSE(CrossingOf(callee, {}, {"cuda", 0}).copied);
}

TEST(PlanRulesTest, TheCpuHasNone) {
  FERRY_ASSERT_OK_AND_ASSIGN(TransferRules rules,
                             RulesWith("cpu", StreamKind::kPool));
  EXPECT_THAT(rules.send_streams, ElementsAre());
}

}  // namespace
}  // namespace tensorferry
