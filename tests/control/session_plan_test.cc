#include "control/session_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/control/test_values.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

TEST(DigestTest, IsThirtyTwoHexDigits) {
  EXPECT_THAT(Digest(GoldenPlan()), ::testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(Digest(GoldenPlan()).size(), 32u);
  EXPECT_EQ(Digest(SessionPlan()).size(), 32u);
}

// Both sides compute it, perhaps from builds of different age.
TEST(DigestTest, IsTheSameInEveryBuild) {
  EXPECT_EQ(Digest(GoldenPlan()), "5b57cdf5d09a3173a5cb6192f1ad5507");
  SessionPlan plan = GoldenPlan();
  plan.caller_carried = {{{"npu", 0}, {"cuda", 0}}};
  EXPECT_EQ(Digest(plan), "d9b9ff6c48de7261d3467ea75efc613f");
  plan = GoldenPlan();
  plan.paths[1].through_host = true;
  EXPECT_EQ(Digest(plan), "3205adff84056c7ca9ad1cedb701f821");
}

TEST(DigestTest, RefusalsDoNotCount) {
  SessionPlan plan = GoldenPlan();
  plan.paths[0].refused.clear();
  EXPECT_EQ(Digest(plan), Digest(GoldenPlan()));
}

TEST(DigestTest, EverythingElseCounts) {
  std::vector<std::function<void(SessionPlan&)>> changes = {
      [](auto& p) { p.caller.name += "x"; },
      [](auto& p) { p.caller.epoch++; },
      [](auto& p) { p.callee.name += "x"; },
      [](auto& p) { p.callee.epoch++; },
      [](auto& p) { p.wire_version++; },
      [](auto& p) { p.to_callee.rules.pop_back(); },
      [](auto& p) { p.to_callee.rules[0].target = {}; },
      [](auto& p) { std::swap(p.to_callee.rules[0], p.to_callee.rules[1]); },
      [](auto& p) { p.to_caller.rules.clear(); },
      [](auto& p) { p.caller_streams[0].kind = StreamKind::kDefault; },
      [](auto& p) { p.callee_streams.clear(); },
      [](auto& p) {
        p.paths[0].caller_device = {"xpu", 0};
      },
      [](auto& p) {
        p.paths[0].callee_device = {"xpu", 0};
      },
      [](auto& p) { p.paths[0].ranked.pop_back(); },
      [](auto& p) { p.paths.pop_back(); },
      [](auto& p) { p.paths[0].through_host = true; },
      [](auto& p) { p.paths[1].through_host = true; },
      [](auto& p) {
        p.caller_carried = {{{"npu", 0}, {"cuda", 0}}};
      },
      [](auto& p) {
        p.callee_carried = {{{"npu", 0}, {"cuda", 0}}};
      },
      [](auto& p) {
        p.callee_carried = {{{"npu", 0}, {"cuda", 1}}};
      },
      [](auto& p) { p.digests = !p.digests; },
      [](auto& p) { p.limits.message_bytes--; },
      [](auto& p) { p.limits.payload_bytes--; },
      [](auto& p) { p.limits.manifest_bytes--; },
      [](auto& p) { p.limits.tensors--; },
      [](auto& p) { p.limits.rank--; },
      [](auto& p) { p.limits.name_bytes--; },
      [](auto& p) { p.limits.operations_in_flight--; },
      [](auto& p) { p.limits.bytes_in_flight--; },
      [](auto& p) { p.limits.operations_queued--; },
      [](auto& p) { p.limits.bytes_queued--; },
      [](auto& p) { p.limits.headers_waiting--; },
      [](auto& p) { p.limits.eager_bytes--; },
      [](auto& p) { p.limits.body_lanes--; },
  };
  std::set<std::string> digests = {Digest(GoldenPlan())};
  for (size_t i = 0; i < changes.size(); ++i) {
    SessionPlan plan = GoldenPlan();
    changes[i](plan);
    EXPECT_TRUE(digests.insert(Digest(plan)).second) << "change " << i;
  }
}

// What is a boundary between two fields must not slide.
TEST(DigestTest, TellsNeighbouringTextsApart) {
  SessionPlan one, other;
  one.paths = {{{}, {}, {"ab", "c"}, {}}};
  other.paths = {{{}, {}, {"a", "bc"}, {}}};
  EXPECT_NE(Digest(one), Digest(other));
}

TEST(SessionPlanTest, TextHasALineForEachRulePairAndLimit) {
  std::string text = ToString(GoldenPlan());
  for (const char* line :
       {"caller \"alice\" (epoch 0000000000000a11)\n",
        "callee \"bob\" (epoch 0000000000000b0b)\n", "wire version 1\n",
        "place to callee: cuda:0=cuda:1\n", "place to callee: enc.*=cpu\n",
        "place to callee: cpu=cpu (default)\n",
        "place to caller: cuda:1=cuda:0\n",
        "stream at caller: cuda:0 high priority\n",
        "stream at callee: cuda:1 pool\n",
        "paths cpu - cpu: unix/local, unix/basic\n", "  not shm/basic: never\n",
        "paths cuda:0 - cuda:1: none\n", "digests on\n",
        "limit body_lanes: 4\n",
        "limit message_bytes: ", "limit payload_bytes: "}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(SessionPlanTest, TextSaysThatNoVersionIsCommon) {
  SessionPlan plan;
  plan.wire_version = 0;
  EXPECT_THAT(ToString(plan), HasSubstr("no wire version in common\n"));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
