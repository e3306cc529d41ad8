// Tensors of a GPU and a process that has none: they go over the paths between
// CPUs, and through host memory on the side of the GPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/child_peer.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/ended.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

using ::absl::StatusCode;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::ChildPeer;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::DifferenceOf;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::GpuTest;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint32_t kEcho = 1, kDropped = 2;
constexpr int64_t kLarge = 20'000'000;  // 80 MB of floats: ten bodies
const c10::Device kGpu("cuda:0");

// The child, which has no GPU.
void EchoAll(const std::shared_ptr<Session>& session) {
  const absl::Status handles =
      session->Handle(kEcho, [](Session& session, Received call) {
        session.Reply(call.envelope,
                      {.tensors = std::move(call.message.tensors),
                       .names = std::move(call.message.names)},
                      {}, [](absl::StatusOr<Receipt>) {});
      });
  const absl::Status drops =
      session->Handle(kDropped, [](Session&, Received) {});
  if (!handles.ok() || !drops.ok()) return;
  session->OnEnd([session](SessionReport) {});
}

class ThroughHostTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    FERRY_ASSERT_OK_AND_ASSIGN(ChildPeer child, ChildPeer::Start());
    child_.emplace(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(peer_,
                               Peer::Create({.name = "parent", .control = ""}));
  }
  void TearDown() override {
    session_ = nullptr;
    peer_ = nullptr;
    child_.reset();
    GpuTest::TearDown();
  }

  static Offer TheOffer(const std::string& only_wire = "") {
    Offer offer;
    offer.to_callee.rules = {*ParsePlacementRule("cuda:0=cpu")};
    if (!only_wire.empty()) offer.paths = {only_wire + "/basic"};
    return offer;
  }
  void Open(const Offer& offer) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        session_,
        blocking::Connect(*peer_, child_->address(), offer, absl::Seconds(30)));
  }
  void Open() { Open(TheOffer()); }

  static std::vector<at::Tensor> OnGpu(const std::vector<at::Tensor>& host) {
    return CopiedTo(kGpu, host).value();
  }
  static std::vector<at::Tensor> OnHost(const std::vector<at::Tensor>& gpu) {
    return CopiedTo(at::kCPU, gpu).value();
  }

  // There and back.
  absl::StatusOr<Received> Carry(std::vector<at::Tensor> tensors,
                                 CallOptions options = {}) {
    return blocking::Call(*session_,
                          {.type = kEcho, .tensors = std::move(tensors)},
                          std::move(options));
  }
  void ExpectToComeBack(const std::vector<at::Tensor>& host) {
    FERRY_ASSERT_OK_AND_ASSIGN(Received back, Carry(OnGpu(host)));
    for (const at::Tensor& tensor : back.message.tensors) {
      EXPECT_EQ(tensor.device(), kGpu);
    }
    EXPECT_EQ(DifferenceOf(host, OnHost(back.message.tensors)), "");
    paths_ = back.receipt.paths;
  }

  std::optional<ChildPeer> child_;
  std::unique_ptr<Peer> peer_;
  std::shared_ptr<Session> session_;
  std::vector<PathUse> paths_;  // of the last reply
};

TEST_F(ThroughHostTest, EveryKindOfTensorComesBackAsItWas) {
  Open();
  for (const testing::MatrixCase& one : testing::TensorMatrix()) {
    SCOPED_TRACE(one.name);
    ExpectToComeBack(one.tensors);
  }
}

TEST_F(ThroughHostTest, TensorsOfManyBodiesTakeAnyPathBetweenCpus) {
  for (const std::string wire : {"unix", "tcp", "tls"}) {
    Open(TheOffer(wire));
    ExpectToComeBack({at::arange(kLarge, at::kInt), at::arange(7, at::kLong)});
    EXPECT_THAT(paths_, Each(Field(&PathUse::path, wire + "/basic")));
  }
  Open();
  ExpectToComeBack({at::arange(kLarge, at::kInt)});
  EXPECT_THAT(paths_, Each(Field(&PathUse::path, StartsWith("unix/local"))));
}

TEST_F(ThroughHostTest, ThePlanSaysSoAndWhyNoOtherPathIsTaken) {
  FERRY_ASSERT_OK_AND_ASSIGN(const Explanation explanation,
                             blocking::Explain(*peer_, child_->address(),
                                               TheOffer(), absl::Seconds(30)));
  EXPECT_TRUE(explanation.objections.empty());
  EXPECT_THAT(
      ToString(explanation.plan),
      AllOf(HasSubstr("paths cuda:0 - cpu: unix/local, unix/basic, "),
            HasSubstr(" (through host memory)\n"),
            HasSubstr("not unix/cuda_basic: callee \"child\" cannot use "
                      "it: no GPU can be used")));
}

TEST_F(ThroughHostTest, TheReceiptSaysHowMuchOfAMessageWent) {
  Open();
  FERRY_ASSERT_OK_AND_ASSIGN(
      const Receipt receipt,
      blocking::Send(*session_, {.type = kDropped,
                                 .tensors = {OnGpu({at::arange(1'000)})[0],
                                             at::arange(100'000)}}));
  EXPECT_EQ(receipt.bytes, 808'000);
  EXPECT_EQ(receipt.bytes_through_host, 8'000);
}

TEST_F(ThroughHostTest, TheCallersOwnTensorsAreFilled) {
  Open();
  const std::vector<at::Tensor> into =
      OnGpu({at::full({1'000'000}, -1, at::kFloat),
             at::full({3, 2}, -1, at::kFloat).t()});
  FERRY_ASSERT_OK_AND_ASSIGN(
      const Received reply,
      blocking::Call(
          *session_,
          {.type = kEcho,
           .tensors = OnGpu({at::arange(1'000'000, at::kFloat),
                             at::arange(6, at::kFloat).view({2, 3})}),
           .names = {"long", "small"}},
          {.into = {into, {"long", "small"}}}));
  EXPECT_EQ(reply.receipt.bounced, 1);
  const std::vector<at::Tensor> filled = OnHost(into);
  EXPECT_TRUE(filled[0].equal(at::arange(1'000'000, at::kFloat)));
  EXPECT_TRUE(filled[1].equal(at::arange(6, at::kFloat).view({2, 3})));
}

TEST_F(ThroughHostTest, DevicesHaveDigestsOnRequest) {
  Open();
  const std::vector<at::Tensor> sent = OnGpu({at::arange(1'000, at::kFloat)});
  std::vector<std::string> digests;
  for (const bool digest_devices : {true, false}) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        const Receipt receipt,
        blocking::Send(*session_, {.type = kDropped, .tensors = sent},
                       {.digest_devices = digest_devices}));
    digests.push_back(receipt.digest);
  }
  EXPECT_NE(digests[0], digests[1]);
}

#ifndef FERRY_REAL_GPU

// ---- on the software GPU only: what fails, and what stands still

TEST_F(ThroughHostTest, ACopyThatFailsIsTheMessagesErrorAndNotTheSessions) {
  Open();
  const std::vector<at::Tensor> sent = OnGpu({at::arange(kLarge, at::kInt)});
  software_gpu::FailCall("cudaMemcpyAsync", 2, cudaErrorInvalidValue);
  EXPECT_THAT(Carry(sent), StatusIs(StatusCode::kFailedPrecondition,
                                    HasSubstr("copying to the host on cuda:0: "
                                              "cudaErrorInvalidValue")));
  ExpectToComeBack({at::arange(kLarge, at::kInt)});
}

TEST_F(ThroughHostTest, NoPinnedMemoryIsTheMessagesErrorAndNotTheSessions) {
  Open();
  const std::vector<at::Tensor> sent = OnGpu({at::arange(kLarge, at::kInt)});
  software_gpu::FailCall("cudaHostAlloc", 1, cudaErrorMemoryAllocation);
  EXPECT_THAT(Carry(sent), StatusIs(StatusCode::kResourceExhausted,
                                    HasSubstr("bytes of pinned memory")));
  ExpectToComeBack({at::arange(kLarge, at::kInt)});
}

// Those of the first four bodies, which the stream has not used yet, are made
// before any comes.
TEST_F(ThroughHostTest, NoPinnedMemoryForALaterBodyIsNoOneElsesErrorEither) {
  Open();
  const c10::cuda::CUDAStream filling = c10::cuda::getStreamFromPool(false, 0);
  software_gpu::ReleaseTorchCaches();
  software_gpu::Hold(filling);
  software_gpu::TakeCalls();
  software_gpu::FailCall("cudaHostAlloc", 5, cudaErrorMemoryAllocation);
  Ended<Received> ended;
  session_->Call({.type = kEcho, .tensors = {at::arange(kLarge, at::kInt)}},
                 {.streams = {filling}}, ended.Callback());
  int asked = 0;
  EXPECT_TRUE(Becomes([&] {
    asked += software_gpu::TakeCalls()["cudaHostAlloc"];
    return asked >= 5;
  })) << "asked "
      << asked << " times";
  software_gpu::Release(filling);
  EXPECT_THAT(ended.Wait(), StatusIs(StatusCode::kResourceExhausted,
                                     HasSubstr("bytes of pinned memory")));
  ExpectToComeBack({at::arange(kLarge, at::kInt)});
}

// That of the first four bodies is there, and in use when the fifth comes.
TEST_F(ThroughHostTest, PinnedMemoryThatTakesLongHoldsUpNobodyElse) {
  Open();
  ExpectToComeBack({at::arange(kLarge / 2, at::kInt)});
  const c10::cuda::CUDAStream filling = c10::cuda::getStreamFromPool(false, 0);
  software_gpu::Hold(filling);
  software_gpu::HoldCalls("cudaHostAlloc");
  Ended<Received> ended;
  session_->Call({.type = kEcho, .tensors = {at::arange(kLarge, at::kInt)}},
                 {.streams = {filling}}, ended.Callback());
  EXPECT_TRUE(Becomes([] { return software_gpu::HeldCalls() > 0; }));
  Ended<Receipt> other;
  session_->Send({.type = kDropped, .tensors = {at::arange(7, at::kInt)}},
                 {.done_is_quick = true}, other.Callback());
  EXPECT_TRUE(Becomes([&] { return other.came(); }));
  EXPECT_FALSE(ended.came());
  software_gpu::ReleaseCalls();
  software_gpu::Release(filling);
  EXPECT_THAT(ended.Wait(), IsOk());
  EXPECT_THAT(other.Wait(), IsOk());
}

// Ten bodies, of which none is handed over.
TEST_F(ThroughHostTest, ADeviceThatStandsStillHoldsUpNobodyElse) {
  Open();
  const c10::cuda::CUDAStream maker = c10::cuda::getStreamFromPool(false, 0);
  const std::vector<at::Tensor> sent = OnGpu({at::arange(kLarge, at::kInt)});
  const size_t pinned = software_gpu::PinnedMemoryUsed();
  software_gpu::Hold(maker);
  Ended<Received> ended;
  const Operation held = session_->Call({.type = kEcho, .tensors = sent},
                                        {.streams = {maker}}, ended.Callback());
  EXPECT_THAT(
      blocking::Send(*session_, {.type = kDropped,
                                 .tensors = {at::arange(kLarge, at::kInt)}}),
      IsOk());
  EXPECT_FALSE(ended.came());
  EXPECT_LE(software_gpu::PinnedMemoryUsed() - pinned, 8 * (size_t{8} << 20));
  software_gpu::Release(maker);
  EXPECT_THAT(ended.Wait(), IsOk());
}

TEST_F(ThroughHostTest, APeerThatDiesWhileItIsCopiedIsAnError) {
  Open();
  ExpectToComeBack({at::arange(1000, at::kFloat)});
  const c10::cuda::CUDAStream maker = c10::cuda::getStreamFromPool(false, 0);
  const std::vector<at::Tensor> sent = OnGpu({at::arange(kLarge, at::kInt)});
  software_gpu::Hold(maker);
  software_gpu::TakeCalls();
  Ended<Received> ended;
  session_->Call({.type = kEcho, .tensors = sent}, {.streams = {maker}},
                 ended.Callback());
  EXPECT_TRUE(Becomes([] {
    return software_gpu::TakeCalls()["cudaStreamAddCallback"] > 0;
  })) << "no copy is waited for";
  child_->Kill();
  software_gpu::Release(maker);
  EXPECT_THAT(ended.Wait(), StatusIs(StatusCode::kUnavailable));
}

#endif  // FERRY_REAL_GPU

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == tensorferry::testing::kChildPeer) {
    setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);  // no GPU
    return tensorferry::testing::EndChild(
        tensorferry::testing::ServeAsChild(tensorferry::EchoAll));
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
