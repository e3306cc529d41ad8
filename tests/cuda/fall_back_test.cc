// From one wire to the next, with tensors on GPUs.
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/executor.h"
#include "cuda/channels.h"
#include "tests/cuda/ended.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/status_matchers.h"
#include "transfer/endpoint.h"

namespace tensorferry {
namespace {

using ::c10::cuda::getStreamFromPool;
using ::tensorferry::software_gpu::OnDevice;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Field;

class FallBackTest : public software_gpu::SoftwareGpuTorchTest {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    for (auto* end : {&caller_, &callee_}) {
      FERRY_ASSERT_OK_AND_ASSIGN(*end,
                                 Endpoint::Create({.executor = &executor_}));
    }
  }
  void TearDown() override {
    caller_ = nullptr;
    callee_ = nullptr;
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  static TransferRules Rules() {
    TransferRules rules;
    rules.session_id = "session-1";
    rules.plan_digest = "plan-1";
    rules.outgoing.rules = {*ParsePlacementRule("cuda:0=cuda:1")};
    rules.incoming = rules.outgoing;
    rules.paths = {"unix/cuda_xth", "unix/basic", "tcp/cuda_basic",
                   "tcp/basic"};
    rules.send_streams = {getStreamFromPool(false, 0),
                          getStreamFromPool(false, 1)};
    rules.receive_streams = rules.send_streams;
    return rules;
  }

  ThreadPool executor_{1};
  std::unique_ptr<Endpoint> caller_, callee_;
};

TEST_F(FallBackTest, OverTheNextWireGpusHaveTheChannelsOfThatOne) {
  FERRY_ASSERT_OK_AND_ASSIGN(Endpoint::Expected expected,
                             callee_->Expect(
                                 Rules(), [](absl::Status) {}, nullptr));
  ASSERT_EQ(expected.addresses.size(), 2u);
  Ended<std::shared_ptr<Link>> dialed;
  caller_->Dial({"unix://@tensorferry-nobody", expected.addresses[1]},
                expected.key, Rules(), absl::Seconds(10), nullptr,
                dialed.Callback());
  ASSERT_THAT(dialed.Wait(), IsOk());
  Ended<Received> received;
  expected.link->Receive({}, received.Callback());
  Ended<Receipt> sent;
  (*dialed.Wait())
      ->Send({.tensors = {at::full({1'000'000}, 3, OnDevice(0))}}, {}, {},
             sent.Callback());
  ASSERT_THAT(received.Wait(), IsOk());
  EXPECT_TRUE(received.Wait()->message.tensors[0].cpu().equal(
      at::full({1'000'000}, 3, at::kFloat)));
  ASSERT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(sent.Wait()->paths,
              ElementsAre(Field(&PathUse::path, "unix"),
                          Field(&PathUse::path, "tcp/cuda_basic")));
  EXPECT_THAT(sent.Wait()->paths[0].status,
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace tensorferry
