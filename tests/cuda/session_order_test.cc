// The order between streams, and what happens when devices fail or stand still:
// only the software GPU shows it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "session/blocking.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/device_pair.h"
#include "tests/cuda/ended.h"
#include "tests/testing/peer_pair.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::software_gpu::OnDevice;
using ::tensorferry::software_gpu::Schedule;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::DevicePairTest;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// Over the channel of the test.
class SessionOrderTest : public DevicePairTest,
                         public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    DevicePairTest::SetUp();
    Open(GetParam());
    software_gpu::SetSchedule({.order = Schedule::Order::kNewestFirst});
  }

  static at::Tensor OnHost(const at::Tensor& tensor) {
    return (*CopiedTo(at::kCPU, {tensor}))[0];
  }
};

TEST_P(SessionOrderTest, SendsWhatTheCurrentStreamMakes) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  {
    const CUDAStreamGuard guard(stream);
    ASSERT_THAT(blocking::Send(sender(), {.tensors = {Made(stream, 3)}}),
                IsOk());
  }
  ASSERT_THAT(received.Wait(), IsOk());
  EXPECT_TRUE(OnHost(received.Wait()->message.tensors[0]).equal(Expected(3)));
}

TEST_P(SessionOrderTest, AfterTheCallbackTheTensorMayBeOverwritten) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  at::Tensor tensor = Made(stream, 5);
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  ASSERT_THAT(
      blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}}),
      IsOk());
  const CUDAStream other = getStreamFromPool(false, 0);
  Fill(tensor, 6, other);
  other.synchronize();
  ASSERT_THAT(received.Wait(), IsOk());
  EXPECT_TRUE(OnHost(received.Wait()->message.tensors[0]).equal(Expected(5)));
}

TEST_P(SessionOrderTest, AReceivedTensorMayBeUsedOnAnyStream) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  ASSERT_THAT(blocking::Send(sender(), {.tensors = {Made(stream, 7)}},
                             {.ready_on = {stream}}),
              IsOk());
  ASSERT_THAT(received.Wait(), IsOk());
  const CUDAStream user = getStreamFromPool(false, 1);
  at::Tensor copy;
  {
    const CUDAStreamGuard guard(user);
    copy = received.Wait()->message.tensors[0].clone();
  }
  user.synchronize();
  EXPECT_TRUE(OnHost(copy).equal(Expected(7)));
}

TEST_P(SessionOrderTest, SmallTensorsTravelTogetherInOrder) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  std::vector<at::Tensor> tensors;
  {
    const CUDAStreamGuard guard(stream);
    for (int i = 0; i < 100; ++i) {
      tensors.push_back(at::full({10}, i, OnDevice(0)));
    }
  }
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  ASSERT_THAT(blocking::Send(sender(), {.tensors = std::move(tensors)},
                             {.ready_on = {stream}}),
              IsOk());
  ASSERT_THAT(received.Wait(), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> host,
      CopiedTo(at::kCPU, received.Wait()->message.tensors));
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(host[i].equal(at::full({10}, i, at::kFloat))) << i;
  }
}

TEST_P(SessionOrderTest, NoCallWaitsForTheDevice) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = Made(stream, 9);
  for (int round = 0; round < 2; ++round) {
    Ended<Received> received;
    software_gpu::TakeSynchronisingCalls();
    receiver().Receive({}, received.Callback());
    ASSERT_THAT(
        blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}}),
        IsOk());
    ASSERT_THAT(received.Wait(), IsOk());
    // The first use of a channel may set up what all share.
    if (round > 0) {
      EXPECT_THAT(software_gpu::TakeSynchronisingCalls(), IsEmpty());
    }
  }
}

TEST_P(SessionOrderTest, ADeviceWithoutMemoryRefusesTheMessage) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = Made(stream, 11);
  software_gpu::SetMemoryLimit(1, software_gpu::MemoryUsed(1));
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  EXPECT_THAT(
      blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}})
          .status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("cuda:1")));
  EXPECT_THAT(received.Wait().status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  software_gpu::SetMemoryLimit(1, size_t{1} << 34);
}

TEST_P(SessionOrderTest, ADeviceThatFailsIsNamedAndOthersGoOn) {
  Offer offer;
  offer.to_callee.rules = {*ParsePlacementRule("cuda:1=cuda:1")};
  offer.paths = {"unix/basic", "unix/" + GetParam()};
  FERRY_ASSERT_OK_AND_ASSIGN(testing::PeerPair other,
                             testing::MakePeerPair(offer));
  const CUDAStream good = getStreamFromPool(false, 1);
  const at::Tensor survivor = Made(good, 13);
  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = Made(stream, 12);
  stream.synchronize();
  software_gpu::FailDevice(stream, cudaErrorIllegalAddress);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  cudaGetLastError();
  EXPECT_THAT(
      blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}})
          .status(),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("cudaErrorIllegalAddress")));
  {
    Ended<Received> received;
    other.callee_session->Receive({}, received.Callback());
    ASSERT_THAT(blocking::Send(*other.caller_session, {.tensors = {survivor}},
                               {.ready_on = {good}}),
                IsOk());
    ASSERT_THAT(received.Wait(), IsOk());
  }
  software_gpu::ClearFailures();
}

INSTANTIATE_TEST_SUITE_P(Channels, SessionOrderTest,
                         ::testing::Values("cuda_xth", "cuda_basic"),
                         [](const auto& info) { return info.param; });

// Over a path between CPUs: what fails on the receiving side.
class ThroughHostTest : public DevicePairTest {
 protected:
  void SetUp() override {
    DevicePairTest::SetUp();
    Open("local");
  }

  // How a message ends for its sender, and for its receiver.
  std::pair<absl::Status, absl::Status> Carry() {
    const CUDAStream stream = getStreamFromPool(false, 0);
    Ended<Received> received;
    receiver().Receive({}, received.Callback());
    const absl::Status sent =
        blocking::Send(sender(), {.tensors = {Made(stream, 15)}},
                       {.ready_on = {stream}})
            .status();
    return {sent, received.Wait().status()};
  }
};

TEST_F(ThroughHostTest, NoPinnedMemoryToReceiveThroughRefusesTheMessage) {
  software_gpu::ReleaseTorchCaches();  // so that the next is asked for
  // The receiver's: its sender copies nothing before it has granted it.
  software_gpu::FailCall("cudaHostAlloc", 1, cudaErrorMemoryAllocation);
  const auto exhausted =
      StatusIs(absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr("bytes of pinned memory for a copy on cuda:1"),
                     HasSubstr("cudaErrorMemoryAllocation")));
  const auto [sent, received] = Carry();
  EXPECT_THAT(sent, exhausted);
  EXPECT_THAT(received, exhausted);
  EXPECT_THAT(Carry(), Pair(IsOk(), IsOk()));
}

TEST_F(ThroughHostTest, WhatCannotBeCopiedInIsTheMessagesError) {
  // The first is out of the other device.
  software_gpu::FailCall("cudaMemcpyAsync", 2, cudaErrorInvalidValue);
  const auto failed = StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("copying from the host on cuda:1: "
                                         "cudaErrorInvalidValue"));
  const auto [sent, received] = Carry();
  EXPECT_THAT(received, failed);
  EXPECT_THAT(sent, failed);
  EXPECT_THAT(Carry(), Pair(IsOk(), IsOk()));
}

using LostChannelTest = DevicePairTest;

// A lane that is opened again would have the same channel, and be lost again.
TEST_F(LostChannelTest, AChannelThatIsLostEndsItsSessionsAndTheNextWorks) {
  Open("cuda_xth");
  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = Made(stream, 14);
  stream.synchronize();
  software_gpu::FailCall("cudaMemcpyAsync", 1, cudaErrorIllegalAddress);
  {
    Ended<Received> received;
    receiver().Receive({}, received.Callback());
    const absl::Status sent =
        blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}})
            .status();
    const absl::Status there = received.Wait().status();
    EXPECT_THAT(sent, StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(there, StatusIs(absl::StatusCode::kUnavailable));
    // Who hears of it from the other side knows only that its lane ended.
    EXPECT_THAT(sent.ToString() + there.ToString(),
                HasSubstr("cudaErrorIllegalAddress"));
  }
  Open("cuda_xth");
  Ended<Received> received;
  receiver().Receive({}, received.Callback());
  EXPECT_THAT(
      blocking::Send(sender(), {.tensors = {tensor}}, {.ready_on = {stream}}),
      IsOk());
  EXPECT_THAT(received.Wait(), IsOk());
}

}  // namespace
}  // namespace tensorferry
