// Sessions whose tensors are on devices: every pair of them, over every channel
// that carries it, in one process and in two. Runs on any GPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "cuda/channels.h"
#include "session/blocking.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/child_peer.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/cuda/ways.h"
#include "tests/testing/peer_pair.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildPeer;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::DifferenceOf;
using ::tensorferry::testing::GpuTest;
using ::tensorferry::testing::OfferOf;
using ::tensorferry::testing::OnDevice;
using ::tensorferry::testing::Way;
using ::testing::Contains;
using ::testing::Field;
using ::testing::StartsWith;

constexpr uint32_t kEcho = 1;
constexpr int64_t kLarge = 20'000'000;  // 80 MB of floats: many chunks

// Answers with what came, from the devices where it came, and their names.
void Echo(Session& session, Received call) {
  std::vector<std::string> devices;
  for (const at::Tensor& tensor : call.message.tensors) {
    devices.push_back(tensor.device().str());
  }
  session.Reply(call.envelope,
                {.payload = absl::StrJoin(devices, " "),
                 .tensors = std::move(call.message.tensors),
                 .names = std::move(call.message.names)},
                {}, [](absl::StatusOr<Receipt>) {});
}

std::vector<at::Tensor> WholeMatrix() {
  std::vector<at::Tensor> all;
  for (const testing::MatrixCase& one : testing::TensorMatrix()) {
    all.insert(all.end(), one.tensors.begin(), one.tensors.end());
  }
  return all;
}

class SessionTest : public GpuTest, public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (GetParam().needs_two()) testing::SkipUnlessThereAreTwoGpus();
    if (IsSkipped()) return;
    Open({GetParam().there});
  }

  virtual void Open(const std::vector<std::string>& rules) = 0;

  // There and back.
  absl::StatusOr<std::vector<at::Tensor>> Carry(
      std::vector<at::Tensor> tensors) {
    absl::StatusOr<Received> reply = blocking::Call(
        *session_, {.type = kEcho, .tensors = std::move(tensors)});
    if (!reply.ok()) return reply.status();
    paths_ = reply->receipt.paths;
    came_ = absl::StrSplit(reply->message.payload, ' ');
    return std::move(reply->message.tensors);
  }

  void ExpectToComeBack(const std::vector<at::Tensor>& host) {
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> sent,
                               CopiedTo(GetParam().source(), host));
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> back, Carry(sent));
    for (const at::Tensor& tensor : back) {
      EXPECT_EQ(tensor.device(), GetParam().source());
    }
    FERRY_ASSERT_OK_AND_ASSIGN(back, CopiedTo(at::kCPU, back));
    EXPECT_EQ(DifferenceOf(host, back), "");
  }

  // Two devices, and the host, in one message.
  void ExpectFromEachDeviceToComeBack() {
    std::vector<at::Tensor> host, sent;
    for (int i = 0; i < 9; ++i) {
      host.push_back(at::arange(i, i + 1000 * (i % 3 + 1), at::kFloat));
      at::Tensor tensor = host.back();
      if (i % 3 != 2) {
        const c10::Device device(at::kCUDA,
                                 static_cast<c10::DeviceIndex>(i % 3));
        FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> copied,
                                   CopiedTo(device, {tensor}));
        tensor = copied[0];
      }
      sent.push_back(tensor);
    }
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> back, Carry(sent));
    for (size_t i = 0; i < back.size(); ++i) {
      const char* const there[] = {"cuda:1", "cuda:0", "cpu"};
      EXPECT_EQ(came_[i], there[i % 3]) << i;
      EXPECT_EQ(back[i].device(), sent[i].device()) << i;
    }
    FERRY_ASSERT_OK_AND_ASSIGN(back, CopiedTo(at::kCPU, back));
    EXPECT_EQ(DifferenceOf(host, back), "");
  }

  std::shared_ptr<Session> session_;
  std::vector<PathUse> paths_;     // of the last reply
  std::vector<std::string> came_;  // on which device each tensor did, there
};

// Two devices that trade places.
std::vector<std::string> Permuted() {
  return {"cuda:0=cuda:1", "cuda:1=cuda:0"};
}

// ---- in one process

class OneProcessTest : public SessionTest {
 protected:
  void Open(const std::vector<std::string>& rules) override {
    FERRY_ASSERT_OK_AND_ASSIGN(
        pair_, testing::MakePeerPair(OfferOf(GetParam(), rules)));
    ASSERT_TRUE(pair_->callee_session->Handle(kEcho, Echo).ok());
    session_ = pair_->caller_session;
  }
  void TearDown() override {
    session_ = nullptr;
    pair_.reset();
    CloseCudaChannelsForTesting();
    SessionTest::TearDown();
  }

  std::optional<testing::PeerPair> pair_;
};

TEST_P(OneProcessTest, EveryKindOfTensorComesBackAsItWas) {
  ExpectToComeBack(WholeMatrix());
}

TEST_P(OneProcessTest, TensorsOfManyChunksComeBackAsTheyWere) {
  ExpectToComeBack({at::arange(kLarge, at::kInt), at::arange(7, at::kLong)});
  EXPECT_THAT(paths_,
              Contains(Field(&PathUse::path, StartsWith(GetParam().path()))));
}

TEST_P(OneProcessTest, WhatAnotherStreamStillMakesIsWaitedFor) {
  if (GetParam().source().is_cpu()) GTEST_SKIP() << "the CPU has no streams";
  for (int round = 0; round < 5; ++round) {
    const c10::cuda::CUDAStream producer =
        c10::cuda::getStreamFromPool(false, GetParam().source().index());
    std::vector<at::Tensor> tensors;
    {
      const c10::cuda::CUDAStreamGuard guard(producer);
      tensors.push_back(
          at::full({100'000}, round, OnDevice(0).device(GetParam().source())));
      tensors.push_back(tensors[0].slice(0, 10, 20).add(1));
    }
    absl::StatusOr<Received> reply = blocking::Call(
        *session_, {.type = kEcho, .tensors = std::move(tensors)},
        {.ready_on = {producer}});
    ASSERT_TRUE(reply.ok()) << reply.status();
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> back,
                               CopiedTo(at::kCPU, reply->message.tensors));
    EXPECT_TRUE(back[0].equal(at::full({100'000}, round, at::kFloat)));
    EXPECT_TRUE(back[1].equal(at::full({10}, round + 1, at::kFloat)));
  }
}

TEST_P(OneProcessTest, TheCallersOwnTensorsAreFilled) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> sent,
      CopiedTo(GetParam().source(), {at::arange(1'000'000, at::kFloat),
                                     at::arange(6, at::kFloat).view({2, 3})}));
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> into,
      CopiedTo(GetParam().source(), {at::full({1'000'000}, -1, at::kFloat),
                                     at::full({3, 2}, -1, at::kFloat).t()}));
  absl::StatusOr<Received> reply = blocking::Call(
      *session_, {.type = kEcho, .tensors = sent, .names = {"long", "small"}},
      {.into = {into, {"long", "small"}}});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->receipt.bounced, 1);
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> back,
                             CopiedTo(at::kCPU, into));
  EXPECT_TRUE(back[0].equal(at::arange(1'000'000, at::kFloat)));
  EXPECT_TRUE(back[1].equal(at::arange(6, at::kFloat).view({2, 3})));
}

TEST_P(OneProcessTest, DevicesHaveDigestsOnRequest) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> sent,
      CopiedTo(GetParam().source(), {at::arange(1'000'000, at::kFloat)}));
  std::vector<std::string> digests;
  for (bool digest_devices : {true, false}) {
    absl::Notification came;
    pair_->callee_session->Receive({}, [&](absl::StatusOr<Received> received) {
      EXPECT_TRUE(received.ok()) << received.status();
      if (received.ok()) digests.push_back(received->receipt.digest);
      came.Notify();
    });
    absl::StatusOr<Receipt> receipt =
        blocking::Send(*session_, {.type = 2, .tensors = sent},
                       {.digest_devices = digest_devices});
    ASSERT_TRUE(receipt.ok()) << receipt.status();
    came.WaitForNotification();
    EXPECT_EQ(receipt->digest, digests.back());
  }
  EXPECT_NE(digests[0], digests[1]);
}

INSTANTIATE_TEST_SUITE_P(Ways, OneProcessTest,
                         ::testing::ValuesIn(testing::WaysInOneProcess()),
                         testing::NameOf);
INSTANTIATE_TEST_SUITE_P(OverTcp, OneProcessTest,
                         ::testing::Values(Way{"cuda_basic", "cuda:0=cuda:0",
                                               "tcp"}),
                         testing::NameOf);

// ---- the kinds of streams

class StreamKindTest : public GpuTest,
                       public ::testing::WithParamInterface<StreamKind> {
 protected:
  void TearDown() override {
    CloseCudaChannelsForTesting();
    GpuTest::TearDown();
  }

  // Of a stream of cuda:0 in `streams`.
  static StreamKind KindIn(const StreamSet& streams) {
    const c10::cuda::CUDAStream stream(
        *StreamForDevice(streams, c10::Device("cuda:0")));
    if (stream == c10::cuda::getDefaultCUDAStream(0)) {
      return StreamKind::kDefault;
    }
    return stream.priority() < 0 ? StreamKind::kHighPriority
                                 : StreamKind::kPool;
  }
};

TEST_P(StreamKindTest, EachSideHasWhatTheOfferSays) {
  Offer offer = OfferOf({"cuda_xth", "cuda:0=cuda:0"});
  const StreamSpec wanted = {{"cuda", 0}, GetParam()};
  offer.caller_streams = {wanted};
  for (const bool callee_too : {false, true}) {
    if (callee_too) offer.callee_streams = {wanted};
    FERRY_ASSERT_OK_AND_ASSIGN(testing::PeerPair pair,
                               testing::MakePeerPair(offer));
    StreamKind there = StreamKind::kPool;
    const absl::Status handles = pair.callee_session->Handle(
        kEcho, [&there](Session& session, Received call) {
          there = KindIn(call.ready_on);
          Echo(session, std::move(call));
        });
    ASSERT_TRUE(handles.ok()) << handles;
    FERRY_ASSERT_OK_AND_ASSIGN(
        std::vector<at::Tensor> sent,
        CopiedTo(c10::Device("cuda:0"), {at::arange(100'000, at::kFloat)}));
    absl::StatusOr<Received> reply = blocking::Call(
        *pair.caller_session, {.type = kEcho, .tensors = std::move(sent)});
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(KindIn(reply->ready_on), GetParam());
    EXPECT_EQ(there, callee_too ? GetParam() : StreamKind::kPool);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, StreamKindTest,
                         ::testing::Values(StreamKind::kDefault,
                                           StreamKind::kPool,
                                           StreamKind::kHighPriority));

// ---- more than one device

class PermutedDevicesTest : public OneProcessTest {
 protected:
  void Open(const std::vector<std::string>&) override {
    OneProcessTest::Open(Permuted());
  }
};

TEST_P(PermutedDevicesTest, EachTensorComesToItsPlaceAndBack) {
  ExpectFromEachDeviceToComeBack();
}

INSTANTIATE_TEST_SUITE_P(Ways, PermutedDevicesTest,
                         ::testing::Values(Way{"cuda_xth", "cuda:0=cuda:1"},
                                           Way{"cuda_basic", "cuda:0=cuda:1"}),
                         testing::NameOf);

// ---- in two processes

// The child.
void EchoAll(const std::shared_ptr<Session>& session) {
  if (!session->Handle(kEcho, Echo).ok()) return;
  session->OnEnd([session](SessionReport) {});
}

class TwoProcessTest : public SessionTest {
 protected:
  void Open(const std::vector<std::string>& rules) override {
    FERRY_ASSERT_OK_AND_ASSIGN(ChildPeer child, ChildPeer::Start());
    child_.emplace(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(peer_,
                               Peer::Create({.name = "parent", .control = ""}));
    FERRY_ASSERT_OK_AND_ASSIGN(
        session_,
        blocking::Connect(*peer_, child_->address(), OfferOf(GetParam(), rules),
                          absl::Seconds(30)));
  }
  void TearDown() override {
    session_ = nullptr;
    peer_ = nullptr;
    child_.reset();
    CloseCudaChannelsForTesting();
    SessionTest::TearDown();
  }

  std::optional<ChildPeer> child_;
  std::unique_ptr<Peer> peer_;
};

TEST_P(TwoProcessTest, EveryKindOfTensorComesBackAsItWas) {
  ExpectToComeBack(WholeMatrix());
}

TEST_P(TwoProcessTest, TensorsOfManyChunksComeBackAsTheyWere) {
  ExpectToComeBack({at::arange(kLarge, at::kInt), at::arange(7, at::kLong)});
  EXPECT_THAT(paths_,
              Contains(Field(&PathUse::path, StartsWith(GetParam().path()))));
}

TEST_P(TwoProcessTest, APeerThatDiesIsAnError) {
  ExpectToComeBack({at::arange(1000, at::kFloat)});
  child_->Kill();
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> sent,
      CopiedTo(GetParam().source(), {at::arange(kLarge, at::kInt)}));
  const absl::Status status = Carry(sent).status();
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsFailedPrecondition(status))
      << status;
}

INSTANTIATE_TEST_SUITE_P(Ways, TwoProcessTest,
                         ::testing::ValuesIn(testing::WaysInTwoProcesses()),
                         testing::NameOf);
INSTANTIATE_TEST_SUITE_P(
    OverOtherWires, TwoProcessTest,
    ::testing::Values(Way{"cuda_basic", "cuda:0=cuda:0", "tcp", 2},
                      Way{"cuda_basic", "cuda:0=cuda:0", "tls", 2}),
    testing::NameOf);

class PermutedDevicesThereTest : public TwoProcessTest {
 protected:
  void Open(const std::vector<std::string>&) override {
    TwoProcessTest::Open(Permuted());
  }
};

TEST_P(PermutedDevicesThereTest, EachTensorComesToItsPlaceAndBack) {
  ExpectFromEachDeviceToComeBack();
}

INSTANTIATE_TEST_SUITE_P(
    Ways, PermutedDevicesThereTest,
    ::testing::Values(Way{"cuda_ipc", "cuda:0=cuda:1", "unix", 2},
                      Way{"cuda_basic", "cuda:0=cuda:1", "unix", 2}),
    testing::NameOf);

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == tensorferry::testing::kChildPeer) {
    return tensorferry::testing::EndChild(
        tensorferry::testing::ServeAsChild(tensorferry::EchoAll));
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
