#include "control/negotiate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/control/test_values.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using absl::StatusCode;

// What is negotiated: alice calls bob. Each case spoils a part of it.
struct Scene {
  Offer offer = OfferOf({"cuda:0=cuda:1"});
  Capabilities alice = PeerWith("alice", {"cuda:0", "cuda:1"});
  Capabilities bob = PeerWith("bob", {"cuda:0", "cuda:1"});
  Policy policy;

  absl::StatusOr<SessionPlan> Negotiate() const {
    return tensorferry::Negotiate(offer, alice, bob, policy);
  }
  Explanation Explain() const {
    return tensorferry::Explain(offer, alice, bob, policy);
  }
};

PathChoice ChoiceOf(const SessionPlan& plan, const DeviceId& caller,
                    const DeviceId& callee) {
  for (const PathChoice& choice : plan.paths) {
    if (choice.caller_device == caller && choice.callee_device == callee) {
      return choice;
    }
  }
  ADD_FAILURE() << "no choice for " << ToString(caller) << " - "
                << ToString(callee);
  return {};
}

std::string Reason(const PathChoice& choice, const std::string& path) {
  for (const PathRefusal& refusal : choice.refused) {
    if (refusal.path == path) return refusal.reason;
  }
  return "not refused";
}

// The plan.

TEST(NegotiateTest, AgreesOnAPlan) {
  Scene scene;
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->caller, scene.alice.peer);
  EXPECT_EQ(plan->callee, scene.bob.peer);
  EXPECT_EQ(plan->wire_version, 1);
  EXPECT_EQ(plan->to_callee, Rules({"cuda:0=cuda:1"}));
  EXPECT_TRUE(plan->digests);
  EXPECT_THAT(plan->paths, SizeIs(2));  // cpu - cpu, cuda:0 - cuda:1
}

TEST(NegotiateTest, IsAFunctionOfItsArguments) {
  Scene scene;
  EXPECT_EQ(Digest(*scene.Negotiate()), Digest(*scene.Negotiate()));
}

TEST(NegotiateTest, ReverseOfAOneToOneMapIsItsInversion) {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cuda:1", "cuda:1=cuda:0"});
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->to_caller, Rules({"cuda:1=cuda:0", "cuda:0=cuda:1"}));
}

TEST(NegotiateTest, NamedReverseIsTakenAsItIs) {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cpu", "cuda:1=cpu"});  // no inversion
  scene.offer.to_caller = Rules({"name:grad.*=cuda:1", "cuda:0=cpu"});
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->to_caller, *scene.offer.to_caller);
}

TEST(NegotiateTest, WithoutRulesThereIsThePairOfCpus) {
  Scene scene;
  scene.offer = Offer();
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  ASSERT_THAT(plan->paths, SizeIs(1));
  EXPECT_THAT(plan->paths[0].ranked, ElementsAre("unix/local", "unix/basic"));
}

TEST(NegotiateTest, NameRuleMayUseEveryDeviceOfTheSender) {
  Scene scene;
  scene.offer = OfferOf({"encoder.*=cuda:1"});
  scene.offer.to_caller = Placement();
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(plan->paths, SizeIs(4));  // from cpu, cuda:0, cuda:1, and cpus
}

TEST(NegotiateTest, NameRuleNeedsAPathFromOneDeviceOnly) {
  Scene scene;
  scene.offer = OfferOf({"encoder.*=cuda:1"});
  scene.offer.to_caller = Placement();
  scene.offer.paths = {"unix/basic", "unix/cuda"};
  std::erase_if(scene.alice.paths, [](const PathCapability& path) {
    return path.from_type == "cuda" || path.name == "unix/local";
  });
  std::erase_if(scene.bob.paths, [](const PathCapability& path) {
    return path.name == "unix/basic";
  });
  const Explanation explanation = scene.Explain();
  // But for the CPUs', which lane 0 needs.
  EXPECT_THAT(explanation.objections, SizeIs(1));
  EXPECT_THAT(ChoiceOf(explanation.plan, {"cpu", 0}, {"cuda", 1}).ranked,
              ElementsAre("unix/cuda"));
  EXPECT_THAT(ChoiceOf(explanation.plan, {"cuda", 0}, {"cuda", 1}).ranked,
              IsEmpty());
}

// ---- through host memory

// Bob has no GPU.
Scene SceneOfOneGpu() {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cpu"});
  scene.bob = PeerWith("bob", {});
  return scene;
}

TEST(NegotiateTest, AGpuWhosePeerHasNoneGoesThroughHostMemory) {
  Scene scene = SceneOfOneGpu();
  for (int i = 0; i < 2; ++i) {
    auto plan = scene.Negotiate();
    ASSERT_THAT(plan, IsOk());
    const PathChoice choice = i == 0 ? ChoiceOf(*plan, {"cuda", 0}, {})
                                     : ChoiceOf(*plan, {}, {"cuda", 0});
    EXPECT_TRUE(choice.through_host);
    EXPECT_THAT(choice.ranked, ElementsAre("unix/local", "unix/basic"));
    EXPECT_THAT(Reason(choice, "unix/cuda"),
                HasSubstr("\"bob\" does not have it for"));
    EXPECT_FALSE(ChoiceOf(*plan, {}, {}).through_host);
    std::swap(scene.alice, scene.bob);  // the caller has none
    scene.offer = OfferOf({"cpu=cuda:0"});
  }
}

TEST(NegotiateTest, WhatIsNotCopiedToTheHostIsRefusedAndItsReasonComesFirst) {
  Scene scene = SceneOfOneGpu();
  scene.alice.devices[1].not_through_host = "the converter of cuda has no X";
  EXPECT_THAT(
      scene.Negotiate(),
      StatusIs(
          StatusCode::kFailedPrecondition,
          HasSubstr("no path between cuda:0 of caller \"alice\" and cpu of "
                    "callee \"bob\": not through host memory: caller "
                    "\"alice\" does not copy cuda:0: the converter of "
                    "cuda has no X; not unix/cuda: ")));
  scene.bob = PeerWith("bob", {"cuda:0"});  // for which there is a path
  EXPECT_THAT(scene.Negotiate(), IsOk());
}

TEST(NegotiateTest, APathOfAGpusIsTakenBeforeOneThroughHostMemory) {
  Scene scene = SceneOfOneGpu();
  scene.bob = PeerWith("bob", {"cuda:0"});
  const PathChoice choice = ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {});
  EXPECT_FALSE(choice.through_host);
  EXPECT_THAT(choice.ranked, ElementsAre("unix/cuda"));
}

TEST(NegotiateTest, APathThatIsNotAllowedLeadsThroughHostMemory) {
  Scene scene;
  scene.offer.paths = {"unix/basic"};
  const PathChoice choice =
      ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {"cuda", 1});
  EXPECT_TRUE(choice.through_host);
  EXPECT_THAT(choice.ranked, ElementsAre("unix/basic"));
}

TEST(NegotiateTest, AnOfferMayLeaveOutThePathOfGpusThatAPolicyNames) {
  Scene scene = SceneOfOneGpu();
  scene.offer.paths = {"unix/basic"};
  scene.policy.paths = {"unix/basic", "unix/cuda"};
  const PathChoice choice = ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {});
  EXPECT_TRUE(choice.through_host);
  EXPECT_THAT(choice.ranked, ElementsAre("unix/basic"));
}

TEST(NegotiateTest, WhoNamesAPathOfGpusIsNotSentThroughHostMemory) {
  for (const bool in_the_offer : {true, false}) {
    Scene scene = SceneOfOneGpu();
    (in_the_offer ? scene.offer.paths : scene.policy.paths) = {"unix/basic",
                                                               "unix/cuda"};
    EXPECT_THAT(scene.Negotiate(),
                StatusIs(StatusCode::kFailedPrecondition,
                         HasSubstr("no path between cuda:0 of caller")));
  }
}

TEST(NegotiateTest, ADeviceOfTheHostIsNowhereCopied) {
  Scene scene = SceneOfOneGpu();
  scene.alice.devices.push_back({.id = {"npu", 0}});
  scene.offer = OfferOf({"npu:0=cpu"});
  const PathChoice choice = ChoiceOf(*scene.Negotiate(), {"npu", 0}, {});
  EXPECT_FALSE(choice.through_host);
  EXPECT_THAT(choice.ranked, ElementsAre("unix/local", "unix/basic"));
}

TEST(NegotiateTest, WithoutAPathThroughHostMemoryEitherBothAreRefused) {
  Scene scene = SceneOfOneGpu();
  scene.policy.paths = {"tcp/basic"};
  EXPECT_THAT(
      scene.Negotiate(),
      StatusIs(StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("no path between cuda:0 of caller \"alice\" and "
                               "cpu of callee \"bob\": not unix/cuda: "),
                     HasSubstr("; not unix/local: the policy of callee "
                               "\"bob\" allows only tcp/basic"))));
}

// Versions.

struct VersionCase {
  VersionRange caller, callee;
  int agreed;  // 0: none
};

TEST(NegotiateTest, AgreesOnTheHighestCommonVersion) {
  for (const VersionCase& c : std::vector<VersionCase>{
           {{1, 1}, {1, 1}, 1},
           {{1, 2}, {1, 1}, 1},
           {{1, 1}, {1, 2}, 1},
           {{1, 3}, {2, 5}, 3},
           {{2, 2}, {1, 3}, 2},
           {{2, 3}, {1, 1}, 0},
           {{1, 1}, {2, 2}, 0},
       }) {
    Scene scene;
    scene.alice.wire_versions = c.caller;
    scene.bob.wire_versions = c.callee;
    auto plan = scene.Negotiate();
    if (c.agreed > 0) {
      ASSERT_THAT(plan, IsOk());
      EXPECT_EQ(plan->wire_version, c.agreed);
      continue;
    }
    EXPECT_THAT(
        plan, StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(absl::StrCat("caller \"alice\" speaks ",
                                                    c.caller.lowest, "..",
                                                    c.caller.highest)),
                             HasSubstr(absl::StrCat("callee \"bob\" speaks ",
                                                    c.callee.lowest, "..",
                                                    c.callee.highest)))));
  }
}

// Streams.

TEST(NegotiateTest, EveryDeviceButTheCpuGetsAPoolStream) {
  Scene scene;
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(plan->caller_streams,
              ElementsAre(StreamSpec{{"cuda", 0}, StreamKind::kPool},
                          StreamSpec{{"cuda", 1}, StreamKind::kPool}));
}

TEST(NegotiateTest, StreamsAreAsTheOfferNamesThem) {
  Scene scene;
  scene.offer.caller_streams = {{{"cuda", 1}, StreamKind::kHighPriority}};
  scene.offer.callee_streams = {{{"cuda", 0}, StreamKind::kDefault}};
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(plan->caller_streams,
              ElementsAre(StreamSpec{{"cuda", 0}, StreamKind::kPool},
                          StreamSpec{{"cuda", 1}, StreamKind::kHighPriority}));
  EXPECT_THAT(plan->callee_streams,
              ElementsAre(StreamSpec{{"cuda", 0}, StreamKind::kDefault},
                          StreamSpec{{"cuda", 1}, StreamKind::kPool}));
}

TEST(NegotiateTest, PeerWithoutAPoolUsesDefaultStreams) {
  Scene scene;
  scene.bob.streams_per_device = 0;
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->callee_streams[0].kind, StreamKind::kDefault);
  EXPECT_EQ(plan->caller_streams[0].kind, StreamKind::kPool);
}

// Limits.

TEST(NegotiateTest, LimitsAreTheSmallestFieldByField) {
  Scene scene;
  scene.offer.limits.emplace().tensors = 10;
  scene.alice.limits.rank = 8;
  scene.bob.limits.body_lanes = 2;
  scene.policy.limits.emplace().message_bytes = 1 << 20;
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  Limits want;
  want.tensors = 10;
  want.rank = 8;
  want.body_lanes = 2;
  want.message_bytes = 1 << 20;
  EXPECT_EQ(plan->limits, want);
}

TEST(NegotiateTest, LimitsRaisedByBothPeersAreRaised) {
  Scene scene;
  scene.alice.limits.headers_waiting = 5000;
  scene.alice.limits.payload_bytes *= 4;
  scene.bob.limits.headers_waiting = 4000;
  scene.bob.limits.payload_bytes *= 2;
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->limits.headers_waiting, 4000u);
  EXPECT_EQ(plan->limits.payload_bytes, 2 * Limits().payload_bytes);
  EXPECT_THAT(CheckPlan(*plan, scene.offer, scene.alice), IsOk());
}

TEST(NegotiateTest, LimitsThatMayBeZero) {
  Scene scene;
  Limits& limits = scene.offer.limits.emplace();
  limits.payload_bytes = 0;
  limits.eager_bytes = 0;
  limits.operations_queued = 0;
  limits.bytes_queued = 0;
  limits.tensors = 0;
  limits.rank = 0;
  limits.name_bytes = 0;
  EXPECT_THAT(scene.Negotiate(), IsOk());
}

// Paths.

TEST(NegotiateTest, PathsAreRankedByTheCalleesPriority) {
  Scene scene;
  scene.offer = Offer();
  scene.bob.paths[0].priority = 1;   // unix/local
  scene.bob.paths[1].priority = 30;  // unix/basic
  EXPECT_THAT(scene.Negotiate()->paths[0].ranked,
              ElementsAre("unix/basic", "unix/local"));
}

struct RefusalCase {
  std::string what;
  std::function<void(Scene&)> spoil;
  std::string path;
  std::vector<std::string> reason_has;
};

TEST(NegotiateTest, EveryPathNotTakenSaysWhy) {
  for (const RefusalCase& c : std::vector<RefusalCase>{
           {"other host",
            [](Scene& s) { s.bob.host_id = "host-2"; },
            "unix/local",
            {"within one host", "alice", "\"host-1\"", "bob", "\"host-2\""}},
           {"hosts unknown",
            [](Scene& s) { s.alice.host_id = s.bob.host_id = ""; },
            "unix/local",
            {"within one host"}},
           {"other user",
            [](Scene& s) { s.bob.user_id = 9; },
            "unix/local",
            {"one user", "alice", "user 7", "bob", "user 9"}},
           {"same host is not enough for the user's",
            [](Scene& s) {
              s.bob.user_id = 9;
              s.alice.paths[0].reach = PathCapability::Reach::kSameHost;
            },
            "unix/local",
            {"one user"}},
           {"other process",
            [](Scene& s) {
              s.alice.paths[0].reach = PathCapability::Reach::kSameProcess;
              s.alice.process_id = 11;
              s.bob.process_id = 12;
            },
            "unix/local",
            {"the peers are two processes, 11 and 12"}},
           {"processes unknown",
            [](Scene& s) {
              s.alice.paths[0].reach = PathCapability::Reach::kSameProcess;
            },
            "unix/local",
            {"the peers are two processes"}},
           {"a process of the same number on another host",
            [](Scene& s) {
              s.alice.paths[0].reach = PathCapability::Reach::kSameProcess;
              s.alice.process_id = s.bob.process_id = 11;
              s.bob.host_id = "host-2";
            },
            "unix/local",
            {"within one host"}},
           {"unusable at the caller",
            [](Scene& s) { s.alice.paths[0].unusable = "ptrace is off"; },
            "unix/local",
            {"caller \"alice\" cannot use it: ptrace is off"}},
           {"unusable at the callee",
            [](Scene& s) { s.bob.paths[0].unusable = "ptrace is off"; },
            "unix/local",
            {"callee \"bob\" cannot use it: ptrace is off"}},
           {"missing at the caller",
            [](Scene& s) { s.alice.paths.erase(s.alice.paths.begin()); },
            "unix/local",
            {"caller \"alice\" does not have it for cpu -> cpu"}},
           {"missing at the callee",
            [](Scene& s) { s.bob.paths.erase(s.bob.paths.begin()); },
            "unix/local",
            {"callee \"bob\" does not have it for cpu -> cpu"}},
           {"not in the offer",
            [](Scene& s) { s.offer.paths = {"unix/basic"}; },
            "unix/local",
            {"offer of caller \"alice\" allows only unix/basic"}},
           {"not in the policy",
            [](Scene& s) { s.policy.paths = {"unix/basic"}; },
            "unix/local",
            {"policy of callee \"bob\" allows only unix/basic"}},
       }) {
    SCOPED_TRACE(c.what);
    Scene scene;
    scene.offer = Offer();
    c.spoil(scene);
    auto plan = scene.Negotiate();
    ASSERT_THAT(plan, IsOk());
    PathChoice choice = ChoiceOf(*plan, {}, {});
    EXPECT_THAT(choice.ranked, ElementsAre("unix/basic"));
    for (const std::string& part : c.reason_has) {
      EXPECT_THAT(Reason(choice, c.path), HasSubstr(part));
    }
  }
}

TEST(NegotiateTest, OneProcessIsNearEnoughForItself) {
  Scene scene;
  scene.offer = Offer();
  scene.alice.paths[0].reach = PathCapability::Reach::kSameProcess;
  scene.alice.process_id = scene.bob.process_id = 11;
  EXPECT_THAT(scene.Negotiate()->paths[0].ranked,
              ElementsAre("unix/local", "unix/basic"));
}

// A path that opens device memory, beside one that does not.
Scene SceneOfTwoGpus() {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cuda:1"});
  for (Capabilities* peer : {&scene.alice, &scene.bob}) {
    peer->devices = {{}, {.id = {"cuda", 0}}, {.id = {"cuda", 1}}};
    peer->devices[1].uuid = "GPU-a";
    peer->devices[2].uuid = "GPU-b";
    peer->paths.push_back({.name = "unix/ipc",
                           .from_type = "cuda",
                           .to_type = "cuda",
                           .priority = 9,
                           .opens_device = true});
  }
  return scene;
}

TEST(NegotiateTest, DeviceMemoryIsOpenedWhereEachSideSeesBothDevices) {
  Scene scene = SceneOfTwoGpus();
  // In another order: UUIDs count.
  std::swap(scene.bob.devices[1].uuid, scene.bob.devices[2].uuid);
  EXPECT_THAT(ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {"cuda", 1}).ranked,
              ElementsAre("unix/ipc", "unix/cuda"));
}

TEST(NegotiateTest, DeviceThatThePeerDoesNotSeeIsNamed) {
  for (const auto& [spoil, reason] :
       std::vector<std::pair<std::function<void(Scene&)>, std::string>>{
           {[](Scene& s) { s.bob.devices[1].uuid = "GPU-c"; },
            "callee \"bob\" does not see GPU-a, cuda:0 of caller \"alice\""},
           {[](Scene& s) { s.alice.devices[2].uuid = "GPU-c"; },
            "caller \"alice\" does not see GPU-b, cuda:1 of callee \"bob\""},
           {[](Scene& s) { s.alice.devices[1].uuid = ""; },
            "caller \"alice\" does not tell the UUID of its cuda:0"}}) {
    Scene scene = SceneOfTwoGpus();
    spoil(scene);
    auto plan = scene.Negotiate();
    ASSERT_THAT(plan, IsOk());
    const PathChoice choice = ChoiceOf(*plan, {"cuda", 0}, {"cuda", 1});
    EXPECT_THAT(choice.ranked, ElementsAre("unix/cuda"));
    EXPECT_THAT(Reason(choice, "unix/ipc"), HasSubstr(reason));
  }
}

TEST(NegotiateTest, APathThatIsTakenOnlyIfNamedHasToBeNamedByBoth) {
  Scene scene = SceneOfTwoGpus();
  for (Capabilities* peer : {&scene.alice, &scene.bob}) {
    peer->paths.back().only_if_named = true;
  }
  const auto choice = [&scene] {
    return ChoiceOf(scene.Explain().plan, {"cuda", 0}, {"cuda", 1});
  };
  EXPECT_THAT(choice().ranked, ElementsAre("unix/cuda"));
  EXPECT_EQ(Reason(choice(), "unix/ipc"),
            "caller \"alice\" takes it only if the offer names it");
  scene.offer.paths = {"unix/local", "unix/ipc", "unix/cuda"};
  EXPECT_THAT(choice().ranked, ElementsAre("unix/cuda"));
  EXPECT_EQ(Reason(choice(), "unix/ipc"),
            "callee \"bob\" takes it only if its policy names it");
  scene.policy.paths = scene.offer.paths;
  EXPECT_THAT(choice().ranked, ElementsAre("unix/ipc", "unix/cuda"));
  scene.offer.paths.clear();
  EXPECT_THAT(choice().ranked, ElementsAre("unix/cuda"));
}

TEST(NegotiateTest, APathThatIsTakenOnlyIfNamedHasToBeNamedForThatSideOnly) {
  Scene scene = SceneOfTwoGpus();
  scene.bob.paths.back().only_if_named = true;
  scene.policy.paths = {"unix/local", "unix/ipc"};
  EXPECT_THAT(ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {"cuda", 1}).ranked,
              ElementsAre("unix/ipc"));
}

// A type of a third party's, beside the two GPUs.
Scene SceneOfACarriedType() {
  Scene scene = SceneOfTwoGpus();
  for (Capabilities* peer : {&scene.alice, &scene.bob}) {
    peer->devices.push_back(
        {.id = {"npu", 0}, .carried_as = DeviceId{"cuda", 1}});
  }
  scene.offer = OfferOf({"npu:0=npu:0"});
  return scene;
}

TEST(NegotiateTest, ADeviceThatIsCarriedAsAGpuHasTheGpusPaths) {
  Scene scene = SceneOfACarriedType();
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(ChoiceOf(*plan, {"npu", 0}, {"npu", 0}).ranked,
              ElementsAre("unix/ipc", "unix/cuda"));
  const CarriedDevices carried = {{{"npu", 0}, {"cuda", 1}}};
  EXPECT_EQ(plan->caller_carried, carried);
  EXPECT_EQ(plan->callee_carried, carried);
  // The one at one side only, to the host of the other.
  scene.bob.devices.back().carried_as.reset();
  plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(ChoiceOf(*plan, {"npu", 0}, {"npu", 0}).ranked,
              ElementsAre("unix/cuda"));
}

TEST(NegotiateTest, WithoutAPathTheTypesAreNamedThatOneHasToCarry) {
  Scene scene = SceneOfACarriedType();
  scene.bob.devices.push_back({.id = {"hpu", 0}});
  scene.offer = OfferOf({"npu:0=hpu:0"});
  scene.alice.paths.clear();
  scene.bob.paths.clear();
  EXPECT_THAT(
      scene.Negotiate(),
      StatusIs(StatusCode::kFailedPrecondition,
               HasSubstr("no path between npu:0 (which crosses as cuda:1) of "
                         "caller \"alice\" and hpu:0 (which crosses as cpu) "
                         "of callee \"bob\": neither has any; link in one "
                         "that carries cuda and cpu")));
}

TEST(NegotiateTest, TheGpuThatADeviceLiesOnMustBeSeenToBeOpened) {
  Scene scene = SceneOfACarriedType();
  scene.bob.devices[2].uuid = "GPU-c";
  auto plan = scene.Negotiate();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Reason(ChoiceOf(*plan, {"npu", 0}, {"npu", 0}), "unix/ipc"),
              HasSubstr("callee \"bob\" does not see GPU-b, cuda:1 of caller"));
}

TEST(NegotiateTest, PathMustCarryBothDirectionsThatRulesUse) {
  Scene scene;
  scene.offer = OfferOf({"cuda:0=cpu"});  // inverted: cpu=cuda:0
  std::erase_if(scene.bob.paths, [](const PathCapability& path) {
    return path.from_type == "cpu" && path.to_type == "cuda";
  });
  const PathChoice both = ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {});
  EXPECT_THAT(Reason(both, "unix/cuda"),
              HasSubstr("callee \"bob\" does not have it for cpu -> cuda"));
  scene.offer.to_caller = Placement();  // that direction is not used any more
  EXPECT_THAT(ChoiceOf(*scene.Negotiate(), {"cuda", 0}, {}).ranked,
              ElementsAre("unix/cuda"));
}

// Objections.

struct ObjectionCase {
  std::string what;
  std::function<void(Scene&)> spoil;
  StatusCode code;
  std::vector<std::string> message_has;
};

std::vector<ObjectionCase> Objections() {
  return {
      {"other name",
       [](Scene& s) { s.offer.expected_callee = "carol"; },
       StatusCode::kFailedPrecondition,
       {"\"carol\" was expected", "callee \"bob\" answered", "address"}},
      {"other epoch",
       [](Scene& s) { s.offer.expected_epoch = 41; },
       StatusCode::kFailedPrecondition,
       {"callee \"bob\"", "epoch 41", "epoch 1003", "restarted"}},
      {"versions apart",
       [](Scene& s) {
         s.alice.wire_versions = {2, 4};
       },
       StatusCode::kFailedPrecondition,
       {"caller \"alice\" speaks 2..4", "callee \"bob\" speaks 1..1"}},
      {"caller without cpu",
       [](Scene& s) { s.alice.devices.erase(s.alice.devices.begin()); },
       StatusCode::kInvalidArgument,
       {"caller \"alice\"", "cpu", "[cuda:0, cuda:1]"}},
      {"callee declares a device twice",
       [](Scene& s) { s.bob.devices.push_back(s.bob.devices[1]); },
       StatusCode::kInvalidArgument,
       {"callee \"bob\" declares cuda:0 twice"}},
      {"invalid index",
       [](Scene& s) { s.alice.devices[1].id.index = 128; },
       StatusCode::kInvalidArgument,
       {"caller \"alice\" declares an invalid device"}},
      {"carried as a GPU that is not there",
       [](Scene& s) {
         s.alice.devices.push_back(
             {.id = {"npu", 0}, .carried_as = DeviceId{"cuda", 7}});
       },
       StatusCode::kInvalidArgument,
       {"caller \"alice\"", "npu:0 is carried as cuda:7"}},
      {"carried as what tensorpipe does not know",
       [](Scene& s) {
         s.bob.devices.push_back({.id = {"npu", 0}});
         s.bob.devices.push_back(
             {.id = {"npu", 1}, .carried_as = DeviceId{"npu", 0}});
       },
       StatusCode::kInvalidArgument,
       {"callee \"bob\"", "npu:1 is carried as npu:0"}},
      {"a GPU that is carried as another",
       [](Scene& s) {
         s.bob.devices[1].carried_as = {"cuda", 1};
       },
       StatusCode::kInvalidArgument,
       {"callee \"bob\"", "cuda:0 is carried as cuda:1"}},
      {"path declared twice",
       [](Scene& s) { s.bob.paths.push_back(s.bob.paths[0]); },
       StatusCode::kInvalidArgument,
       {"callee \"bob\"", "unix/local for cpu -> cpu twice"}},
      {"priorities equal",
       [](Scene& s) { s.bob.paths[0].priority = s.bob.paths[1].priority; },
       StatusCode::kInvalidArgument,
       {"callee \"bob\"", "unix/basic", "priority 10", "unix/local", "differ"}},
      {"source not declared",
       [](Scene& s) {
         s.offer.to_callee.rules.push_back(Rules({"cuda:5=cpu"}).rules[0]);
       },
       StatusCode::kInvalidArgument,
       {"offer.to_callee.rules[1] (cuda:5=cpu)", "caller \"alice\"",
        "no source cuda:5", "it has cpu, cuda:0, cuda:1"}},
      {"target not declared",
       [](Scene& s) { s.offer.to_callee = Rules({"cuda:0=cuda:6"}); },
       StatusCode::kInvalidArgument,
       {"offer.to_callee.rules[0]", "callee \"bob\"", "no target cuda:6",
        "it has cpu, cuda:0, cuda:1"}},
      {"source of the reverse not declared",
       [](Scene& s) { s.offer.to_caller = Rules({"cuda:7=cpu"}); },
       StatusCode::kInvalidArgument,
       {"offer.to_caller.rules[0]", "callee \"bob\"", "no source cuda:7"}},
      {"target of the reverse not declared",
       [](Scene& s) { s.offer.to_caller = Rules({"cpu=cuda:8"}); },
       StatusCode::kInvalidArgument,
       {"offer.to_caller.rules[0]", "caller \"alice\"", "no target cuda:8"}},
      {"one source twice",
       [](Scene& s) {
         s.offer.to_callee = Rules({"cuda:0=cuda:1", "cuda:0=cpu"});
       },
       StatusCode::kInvalidArgument,
       {"rules[1] (cuda:0=cpu)", "never applies", "rules[0]"}},
      {"one glob twice",
       [](Scene& s) {
         s.offer.to_callee = Rules({"w.*=cuda:1", "w.*=cpu"});
         s.offer.to_caller = Placement();
       },
       StatusCode::kInvalidArgument,
       {"rules[1] (w.*=cpu)", "never applies"}},
      {"two sources, one target, no reverse",
       [](Scene& s) {
         s.offer.to_callee = Rules({"cuda:0=cpu", "cuda:1=cpu"});
       },
       StatusCode::kInvalidArgument,
       {"offer.to_caller is not given", "cuda:0", "cuda:1", "cpu"}},
      {"name rule, no reverse",
       [](Scene& s) { s.offer.to_callee = Rules({"w.*=cuda:1"}); },
       StatusCode::kInvalidArgument,
       {"offer.to_caller is not given", "w.*=cuda:1"}},
      {"stream for the cpu",
       [](Scene& s) {
         s.offer.caller_streams = {{{}, StreamKind::kPool}};
       },
       StatusCode::kInvalidArgument,
       {"offer.caller_streams[0]", "CPU", "caller \"alice\""}},
      {"stream for a device not there",
       [](Scene& s) {
         s.offer.callee_streams = {{{"cuda", 9}, StreamKind::kPool}};
       },
       StatusCode::kInvalidArgument,
       {"offer.callee_streams[0]", "callee \"bob\"", "cuda:9"}},
      {"two streams for a device",
       [](Scene& s) {
         s.offer.callee_streams = {{{"cuda", 1}, StreamKind::kPool},
                                   {{"cuda", 1}, StreamKind::kDefault}};
       },
       StatusCode::kInvalidArgument,
       {"offer.callee_streams[1]", "cuda:1", "already"}},
      {"policy forbids the target",
       [](Scene& s) {
         s.policy.devices = {{}, {"cuda", 0}};
       },
       StatusCode::kPermissionDenied,
       {"rules[0] (cuda:0=cuda:1)", "policy of callee \"bob\"",
        "caller \"alice\"", "cuda:1", "only on cpu, cuda:0"}},
      {"policy forbids where CPU tensors go",
       [](Scene& s) {
         s.policy.devices = {{"cuda", 1}};
       },
       StatusCode::kPermissionDenied,
       {"without a rule for cpu", "policy of callee \"bob\""}},
      {"no operation allowed",
       [](Scene& s) { s.policy.limits.emplace().operations_in_flight = 0; },
       StatusCode::kResourceExhausted,
       {"limits.operations_in_flight", "policy of callee \"bob\"", "allows 0"}},
      {"no lanes",
       [](Scene& s) { s.offer.limits.emplace().body_lanes = 0; },
       StatusCode::kResourceExhausted,
       {"limits.body_lanes", "offer of caller \"alice\""}},
      {"no bytes",
       [](Scene& s) { s.alice.limits.message_bytes = 0; },
       StatusCode::kResourceExhausted,
       {"limits.message_bytes: caller \"alice\""}},
      {"no pool stream",
       [](Scene& s) {
         s.bob.streams_per_device = 0;
         s.offer.callee_streams = {{{"cuda", 1}, StreamKind::kHighPriority}};
       },
       StatusCode::kResourceExhausted,
       {"offer.callee_streams[0]", "callee \"bob\"", "cuda:1"}},
      {"no path between the CPUs",
       [](Scene& s) { s.offer.paths = {"unix/cuda"}; },
       StatusCode::kFailedPrecondition,
       {"no path between cpu of caller \"alice\" and cpu of callee \"bob\"",
        "not unix/local: the offer", "not unix/basic: the offer"}},
      {"no path for a device rule",
       [](Scene& s) { s.policy.paths = {"tcp/basic"}; },
       StatusCode::kFailedPrecondition,
       {"no path between cuda:0 of caller \"alice\" and cuda:1 of callee "
        "\"bob\"",
        "not unix/cuda: the policy"}},
      {"no path at all",
       [](Scene& s) {
         s.alice.paths.clear();
         s.bob.paths.clear();
       },
       StatusCode::kFailedPrecondition,
       {"no path between cuda:0", "neither has any", "cuda and cuda"}},
      {"no path for a name rule",
       [](Scene& s) {
         s.offer.to_callee = Rules({"w.*=cuda:1"});
         s.offer.to_caller = Placement();
         s.offer.paths = {"tcp/basic"};
       },
       StatusCode::kFailedPrecondition,
       {"to_callee.rules[0] (w.*=cuda:1)", "any device of caller \"alice\"",
        "cuda:1 of callee \"bob\""}},
  };
}

TEST(NegotiateTest, EveryObjectionNamesPeerDeviceAndChange) {
  for (const ObjectionCase& c : Objections()) {
    SCOPED_TRACE(c.what);
    Scene scene;
    ASSERT_THAT(scene.Negotiate(), IsOk());
    c.spoil(scene);
    auto plan = scene.Negotiate();
    EXPECT_THAT(plan, StatusIs(c.code));
    for (const std::string& part : c.message_has) {
      EXPECT_THAT(std::string(plan.status().message()), HasSubstr(part));
    }
  }
}

TEST(NegotiateTest, APeerWithoutAGpuSaysWhy) {
  Scene scene;
  scene.bob.devices = {{}};
  for (PathCapability& path : scene.bob.paths) {
    if (path.from_type == "cpu" && path.to_type == "cpu") {
      path.unusable = "of the host";
    } else {
      path.unusable = "no GPU can be used: no driver";
    }
  }
  EXPECT_THAT(scene.Negotiate().status().message(),
              HasSubstr("callee \"bob\" has no target cuda:1; it has cpu: no "
                        "GPU can be used: no driver\n"));
  scene.offer.callee_streams = {{{"cuda", 1}, StreamKind::kPool}};
  EXPECT_THAT(scene.Negotiate().status().message(),
              HasSubstr("offer.callee_streams[0]: callee \"bob\" has no "
                        "cuda:1; it has cpu: no GPU can be used: no driver\n"));
  // Who has some of them can use them.
  scene.bob.devices = {{}, {.id = {"cuda", 0}}};
  EXPECT_THAT(scene.Negotiate().status().message(),
              HasSubstr("it has cpu, cuda:0\n"));
}

TEST(NegotiateTest, ObjectionsComeAllTogetherFirstCodeFirst) {
  Scene scene;
  scene.offer.expected_callee = "carol";
  scene.offer.expected_epoch = 41;
  scene.alice.wire_versions = {2, 4};
  scene.bob.devices.push_back(scene.bob.devices[1]);
  scene.offer.to_callee = Rules({"cuda:0=cuda:1", "cuda:5=cuda:6"});
  scene.offer.to_caller = Rules({"cuda:7=cpu"});
  scene.offer.caller_streams = {{{}, StreamKind::kPool}};
  scene.policy.devices = {{}};
  scene.policy.limits.emplace().body_lanes = 0;
  scene.policy.paths = {"tcp/basic"};
  Explanation explanation = scene.Explain();
  std::vector<StatusCode> codes;
  std::vector<std::string> messages;
  for (const absl::Status& objection : explanation.objections) {
    if (codes.empty() || codes.back() != objection.code()) {
      codes.push_back(objection.code());
    }
    messages.push_back(std::string(objection.message()));
  }
  EXPECT_THAT(
      codes,
      ElementsAre(StatusCode::kFailedPrecondition, StatusCode::kInvalidArgument,
                  StatusCode::kPermissionDenied, StatusCode::kResourceExhausted,
                  StatusCode::kFailedPrecondition));
  EXPECT_THAT(messages, SizeIs(13));
  auto plan = scene.Negotiate();
  EXPECT_THAT(plan, StatusIs(StatusCode::kFailedPrecondition,
                             absl::StrJoin(messages, "\n")));
}

TEST(NegotiateTest, EndlessObjectionsAreCounted) {
  Scene scene;
  std::vector<std::string> rules;
  for (int i = 0; i < 100; ++i) {
    rules.push_back(absl::StrCat("w", i, ".*=cuda:9"));
  }
  scene.offer = OfferOf(rules);
  scene.offer.to_caller = Placement();
  EXPECT_THAT(scene.Explain().objections, SizeIs(100));
  EXPECT_THAT(scene.Negotiate(), StatusIs(StatusCode::kInvalidArgument,
                                          HasSubstr("... and 36 more")));
}

std::vector<std::string> Gpus(int count) {
  std::vector<std::string> devices;
  for (int i = 0; i < count; ++i) devices.push_back(absl::StrCat("cuda:", i));
  return devices;
}

size_t TextBytes(const SessionPlan& plan) {
  size_t bytes = 0;
  for (const PathChoice& choice : plan.paths) {
    for (const std::string& path : choice.ranked) bytes += path.size();
    for (const PathRefusal& refusal : choice.refused) {
      bytes += refusal.path.size() + refusal.reason.size();
    }
  }
  return bytes;
}

// 1,000 pairs, 64 paths each, none allowed by 128 long names.
TEST(NegotiateTest, WhatAPlanSaysOfRefusalsIsBounded) {
  Scene scene;
  scene.alice = PeerWith("alice", Gpus(99));
  scene.bob = PeerWith("bob", Gpus(9));
  while (scene.alice.paths.size() < 64) {
    int n = static_cast<int>(scene.alice.paths.size());
    scene.alice.paths.push_back(
        {absl::StrCat(std::string(240, 'p'), n), "cuda", "cuda", n + 100,
         PathCapability::Reach::kAnywhere, std::string(2000, 'u')});
  }
  std::vector<std::string> rules;
  for (int i = 0; i < 9; ++i)
    rules.push_back(absl::StrCat("w", i, "=cuda:", i));
  scene.offer = OfferOf(rules);
  scene.offer.to_caller = Placement();
  scene.offer.paths = {"unix/local", "unix/basic"};
  while (scene.offer.paths.size() < 128) {
    scene.offer.paths.push_back(
        absl::StrCat(std::string(250, 'q'), scene.offer.paths.size()));
  }
  Explanation explanation = scene.Explain();
  ASSERT_THAT(explanation.plan.paths, SizeIs(901));
  EXPECT_LT(TextBytes(explanation.plan), size_t{4} << 20);
  PathChoice first = ChoiceOf(explanation.plan, {"cuda", 0}, {"cuda", 0});
  ASSERT_THAT(first.refused, SizeIs(17));
  EXPECT_THAT(first.refused[0].reason,
              AllOf(HasSubstr("allows only unix/local, unix/basic, qqq"),
                    HasSubstr("(128 in all)")));
  EXPECT_EQ(first.refused.back(), (PathRefusal{"others", "44 more"}));
  EXPECT_THAT(ChoiceOf(explanation.plan, {"cuda", 98}, {"cuda", 8}).refused,
              IsEmpty());
  size_t objected = 0;
  for (const absl::Status& objection : explanation.objections) {
    objected += objection.message().size();
  }
  EXPECT_LT(objected, size_t{1} << 20);
}

TEST(NegotiateTest, TooManyPairsAreRefused) {
  Scene scene;
  scene.alice = PeerWith("alice", Gpus(100));
  scene.bob = PeerWith("bob", Gpus(20));
  std::vector<std::string> rules;
  for (int i = 0; i < 20; ++i)
    rules.push_back(absl::StrCat("w", i, "=cuda:", i));
  scene.offer = OfferOf(rules);
  scene.offer.to_caller = Placement();
  EXPECT_THAT(scene.Negotiate(),
              StatusIs(StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("2021 pairs"), HasSubstr("alice"),
                             HasSubstr("bob"), HasSubstr("at most 1024"))));
}

// Explain.

TEST(ExplainTest, HasNoObjectionsWhereNegotiateHasAPlan) {
  Scene scene;
  Explanation explanation = scene.Explain();
  EXPECT_THAT(explanation.objections, IsEmpty());
  EXPECT_EQ(Digest(explanation.plan), Digest(*scene.Negotiate()));
}

TEST(ExplainTest, FillsThePlanAsFarAsItCan) {
  Scene scene;
  scene.alice.wire_versions = {2, 2};
  scene.offer.to_callee = Rules({"cuda:0=cuda:1", "cuda:5=cuda:6"});
  scene.offer.to_caller = Placement();
  scene.policy.limits.emplace().rank = 4;
  Explanation explanation = scene.Explain();
  const SessionPlan& plan = explanation.plan;
  EXPECT_THAT(explanation.objections, SizeIs(3));
  EXPECT_EQ(plan.callee, scene.bob.peer);
  EXPECT_EQ(plan.wire_version, 0);
  EXPECT_EQ(plan.to_callee, scene.offer.to_callee);
  EXPECT_EQ(plan.limits.rank, 4u);
  EXPECT_THAT(plan.caller_streams, SizeIs(2));
  // The undeclared pair has no choice, the others do.
  EXPECT_THAT(plan.paths, SizeIs(2));
  EXPECT_THAT(ChoiceOf(plan, {"cuda", 0}, {"cuda", 1}).ranked,
              ElementsAre("unix/cuda"));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
