// What goes through host memory, both sides have to say: a peer that sees it in
// another way than we is refused.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "cuda/channels.h"
#include "tests/cuda/ended.h"
#include "tests/cuda/ways.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/status_matchers.h"
#include "transfer/in_process_pair.h"

namespace tensorferry {
namespace {

using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Way;
using ::testing::HasSubstr;

constexpr int64_t kFloats = 1'000'000;

class ThroughHostRulesTest : public software_gpu::SoftwareGpuTorchTest,
                             public ::testing::WithParamInterface<Way> {
 protected:
  void TearDown() override {
    received_ = Ended<Received>();
    executor_ = nullptr;  // whose tasks may hold memory of devices
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  // Of a session that has a path for each pair, on the host and between devices
  // and it.
  static TransferRules RulesOf(bool sends, bool through_host) {
    TransferRules rules;
    rules.session_id = "session-1";
    rules.plan_digest = "plan-1";
    rules.outgoing.rules = {*ParsePlacementRule(GetParam().there)};
    rules.incoming = rules.outgoing;
    rules.paths = {"unix/cuda_basic", "unix/local", "unix/basic"};
    if (through_host) {
      const PlacementRule& rule = rules.outgoing.rules[0];
      rules.through_host = {sends ? std::pair(rule.source, rule.target)
                                  : std::pair(rule.target, rule.source)};
    }
    rules.send_streams = {getStreamFromPool(false, 0),
                          getStreamFromPool(false, 1)};
    rules.receive_streams = rules.send_streams;
    return rules;
  }

  // One message, of two who say that it goes through host memory, or do not.
  // Both have heard how it ended.
  void Carry(bool sender_says_so, bool receiver_says_so) {
    EndpointOptions options;
    options.executor = executor_.get();
    FERRY_ASSERT_OK_AND_ASSIGN(
        InProcessPair pair,
        MakeInProcessPair(options, options,
                          RulesOf(/*sends=*/true, sender_says_so),
                          RulesOf(/*sends=*/false, receiver_says_so)));
    Ended<Receipt> sent;
    pair.callee->Receive({}, received_.Callback());
    pair.caller->Send({.tensors = {at::full({kFloats}, 3,
                                            at::TensorOptions()
                                                .dtype(at::kFloat)
                                                .device(GetParam().source()))}},
                      {}, {}, sent.Callback());
    received_.Wait().IgnoreError();
    sent_ = sent.Wait();
  }

  // By its receiver, which ends the link: its sender hears no more than that.
  void ExpectToBeRefused() {
    EXPECT_THAT(
        received_.Wait(),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(absl::StrCat("not from ", GetParam().source().str(),
                                        " to ", GetParam().target().str(),
                                        " as its manifest says"))));
    EXPECT_THAT(sent_, StatusIs(absl::StatusCode::kUnavailable));
  }

  std::unique_ptr<ThreadPool> executor_ = std::make_unique<ThreadPool>(2);
  Ended<Received> received_;
  absl::StatusOr<Receipt> sent_;
};

TEST_P(ThroughHostRulesTest, WhatBothSayIsCarriedAndInTheReceiptsOfBoth) {
  for (const bool through_host : {false, true}) {
    received_ = Ended<Received>();
    Carry(through_host, through_host);
    ASSERT_THAT(sent_, IsOk());
    ASSERT_THAT(received_.Wait(), IsOk());
    const uint64_t bytes = through_host ? kFloats * sizeof(float) : 0;
    EXPECT_EQ(sent_->bytes_through_host, bytes);
    EXPECT_EQ(received_.Wait()->receipt.bytes_through_host, bytes);
    EXPECT_TRUE(received_.Wait()->message.tensors[0].cpu().equal(
        at::full({kFloats}, 3, at::kFloat)));
  }
}

TEST_P(ThroughHostRulesTest, WhatOnlyTheSenderSaysIsRefused) {
  Carry(/*sender_says_so=*/true, /*receiver_says_so=*/false);
  ExpectToBeRefused();
}

TEST_P(ThroughHostRulesTest, WhatOnlyTheReceiverSaysIsRefused) {
  Carry(/*sender_says_so=*/false, /*receiver_says_so=*/true);
  ExpectToBeRefused();
}

INSTANTIATE_TEST_SUITE_P(Ways, ThroughHostRulesTest,
                         ::testing::Values(Way{"local", "cuda:0=cuda:1"},
                                           Way{"local", "cuda:0=cpu"},
                                           Way{"local", "cpu=cuda:0"}),
                         testing::NameOf);

}  // namespace
}  // namespace tensorferry
