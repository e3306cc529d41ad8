// A caller takes no plan that its offer does not allow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "control/negotiate.h"
#include "tests/control/test_values.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

struct Scene {
  Scene() {
    offer = OfferOf({"cuda:0=cuda:1"});
    offer.caller_streams = {{{"cuda", 0}, StreamKind::kHighPriority}};
    offer.callee_streams = {{{"cuda", 1}, StreamKind::kDefault}};
    offer.expected_callee = "bob";
    offer.expected_epoch = 1003;
    plan = *Negotiate(offer, caller, PeerWith("bob", {"cuda:1"}), {});
  }
  Offer offer;
  Capabilities caller = PeerWith("alice", {"cuda:0"});
  SessionPlan plan;
};

TEST(CheckPlanTest, TakesWhatNegotiateGives) {
  Scene scene;
  EXPECT_THAT(CheckPlan(scene.plan, scene.offer, scene.caller), IsOk());
}

TEST(CheckPlanTest, CalleeMayHaveStreamsOfItsOwnAndLowerLimits) {
  Scene scene;
  scene.plan.callee_streams.push_back({{"cuda", 7}, StreamKind::kPool});
  scene.plan.limits.rank = 1;
  EXPECT_THAT(CheckPlan(scene.plan, scene.offer, scene.caller), IsOk());
}

TEST(CheckPlanTest, AGpuMayGoThroughHostMemory) {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cpu"});
  scene.plan = *Negotiate(scene.offer, scene.caller, PeerWith("bob", {}), {});
  EXPECT_THAT(CheckPlan(scene.plan, scene.offer, scene.caller), IsOk());
}

TEST(CheckPlanTest, NamesTheFieldThatDiffers) {
  struct Case {
    std::string field;
    std::function<void(Scene&)> spoil;
  };
  for (const Case& c : std::vector<Case>{
           {"caller: \"eve\"", [](Scene& s) { s.plan.caller.name = "eve"; }},
           {"caller: \"alice\" with epoch 5",
            [](Scene& s) { s.plan.caller.epoch = 5; }},
           {"callee.name", [](Scene& s) { s.plan.callee.name = "eve"; }},
           {"callee.epoch", [](Scene& s) { s.plan.callee.epoch = 5; }},
           {"wire_version: 2", [](Scene& s) { s.plan.wire_version = 2; }},
           {"wire_version: 0", [](Scene& s) { s.plan.wire_version = 0; }},
           {"to_callee", [](Scene& s) { s.plan.to_callee = {}; }},
           {"to_caller", [](Scene& s) { s.plan.to_caller = {}; }},
           {"to_caller",
            [](Scene& s) { s.offer.to_caller = Rules({"cuda:1=cpu"}); }},
           {"caller_streams",
            [](Scene& s) {
              s.plan.caller_streams[0].kind = StreamKind::kDefault;
            }},
           {"caller_streams", [](Scene& s) { s.plan.caller_streams.clear(); }},
           {"callee_streams: not the offer's stream for cuda:1",
            [](Scene& s) { s.plan.callee_streams.clear(); }},
           {"callee_streams: cpu",
            [](Scene& s) {
              s.plan.callee_streams.push_back({{}, StreamKind::kPool});
            }},
           {"callee_streams: cuda:1",
            [](Scene& s) {
              s.plan.callee_streams.push_back(
                  {{"cuda", 1}, StreamKind::kDefault});
            }},
           {"paths: none between cpu and cpu",
            [](Scene& s) { s.plan.paths.erase(s.plan.paths.begin()); }},
           {"paths: none between cuda:0 and cuda:1",
            [](Scene& s) { s.plan.paths.pop_back(); }},
           {"paths: none between cuda:0 and cuda:1",
            [](Scene& s) { s.plan.paths.back().ranked.clear(); }},
           {"paths: cpu - cpu is there twice",
            [](Scene& s) { s.plan.paths.push_back(s.plan.paths[0]); }},
           {"paths: cuda:9 - cpu: the caller has no such device",
            [](Scene& s) {
              s.plan.paths.push_back({{"cuda", 9}, {}, {}, {}});
            }},
           {"unix/magic is not one that the caller can use",
            [](Scene& s) { s.plan.paths[0].ranked.push_back("unix/magic"); }},
           {"unix/local is there twice",
            [](Scene& s) { s.plan.paths[0].ranked.push_back("unix/local"); }},
           {"unix/local is not one that the caller can use",
            [](Scene& s) { s.caller.paths[0].unusable = "no"; }},
           {"unix/local is not one that the offer allows",
            [](Scene& s) { s.caller.paths[0].only_if_named = true; }},
           {"unix/local is not one that the offer allows",
            [](Scene& s) {
              s.offer.paths = {"unix/basic", "unix/cuda"};
            }},
           {"paths: cpu - cpu goes through host memory, where it is",
            [](Scene& s) { s.plan.paths[0].through_host = true; }},
           {"paths: cuda:0 - cuda:1 goes through host memory over no path",
            [](Scene& s) {
              s.plan.paths[1].through_host = true;
              s.plan.paths[1].ranked.clear();
            }},
           {"unix/cuda is not one that the caller can use",
            [](Scene& s) { s.plan.paths[1].through_host = true; }},
           {"paths: cuda:0 - cuda:1 goes through host memory, but it has no X",
            [](Scene& s) {
              s.plan.paths[1].through_host = true;
              s.caller.devices[1].not_through_host = "it has no X";
            }},
           {"callee_carried: cuda:1 as cuda:0",
            [](Scene& s) {
              s.plan.callee_carried = {{{"cuda", 1}, {"cuda", 0}}};
            }},
           {"callee_carried: npu:0 as cpu",
            [](Scene& s) {
              s.plan.callee_carried = {{{"npu", 0}, {}}};
            }},
           {"caller_carried: not as the caller's devices say",
            [](Scene& s) {
              s.plan.caller_carried = {{{"cuda", 0}, {"cuda", 1}}};
            }},
           // Also of a device that no path and no rule names.
           {"caller_carried: not as the caller's devices say",
            [](Scene& s) {
              s.plan.caller_carried = {{{"npu", 7}, {"cuda", 0}}};
            }},
           {"digests: off, want on", [](Scene& s) { s.plan.digests = false; }},
           {"limits", [](Scene& s) { s.offer.limits.emplace().tensors = 1; }},
           {"limits", [](Scene& s) { s.caller.limits.rank = 1; }},
           {"limits: body_lanes is 0",
            [](Scene& s) { s.plan.limits.body_lanes = 0; }},
           {"limits: headers_waiting is 0",
            [](Scene& s) { s.plan.limits.headers_waiting = 0; }},
       }) {
    SCOPED_TRACE(c.field);
    Scene scene;
    c.spoil(scene);
    EXPECT_THAT(
        CheckPlan(scene.plan, scene.offer, scene.caller),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(c.field)));
  }
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
