// Each edge of the order between streams that operations of a session have to
// make. mutation/ proves that each is needed, and found when missing.
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "session/blocking.h"
#include "tests/cuda/carry.h"
#include "tests/cuda/device_pair.h"
#include "tests/cuda/ended.h"
#include "tests/cuda/lags.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::DevicePairTest;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::ReadOn;
using ::tensorferry::testing::StatusIs;

constexpr uint32_t kTensor = 1, kPing = 2;

// Over cuda_xth, which calls back as soon as a copy is enqueued. A test fails
// for a race too.
class SessionFenceTest : public DevicePairTest,
                         public ::testing::WithParamInterface<testing::Lag> {
 protected:
  virtual void Connect() { Open("cuda_xth"); }
  void SetUp() override {
    DevicePairTest::SetUp();
    Connect();
    software_gpu::SetSchedule(GetParam().schedule);
  }
  void TearDown() override {
    received_ = Ended<Received>();
    DevicePairTest::TearDown();
  }

  // How many operations wait for their streams before they end. All of what is
  // enqueued for such an operation is on them.
  int Fences() {
    fences_ += software_gpu::TakeCalls()["cudaStreamAddCallback"];
    return fences_;
  }
  // Whether that many do, and none of them has ended.
  bool Fence(int count) {
    return Becomes([&] {
             return Fences() >= count || received_.came() || sent_.came();
           }) &&
           !received_.came() && !sent_.came();
  }
  // Both loops have done what they were told before, and the callbacks of it
  // have come.
  void Ping() {
    Ended<Received> received;
    receiver().Receive({.filter = {.type = kPing}}, received.Callback());
    ASSERT_THAT(blocking::Send(sender(), {.type = kPing, .payload = "ping"}),
                IsOk());
    ASSERT_THAT(received.Wait(), IsOk());
  }

  void Receive(ReceiveOptions options = {}) {
    options.filter.type = kTensor;
    receiving_ = receiver().Receive(std::move(options), received_.Callback());
  }
  void Send(at::Tensor tensor, CUDAStream ready_on) {
    sending_ = sender().Send(
        {.type = kTensor, .tensors = {std::move(tensor)}, .names = {"a"}},
        {.ready_on = {ready_on}}, sent_.Callback());
  }

  // What is sent while its maker stands still comes whole once that goes on.
  void ExpectToEndAfterItsMaker(float value) {
    software_gpu::Hold(maker_);
    Receive();
    Send(Made(maker_, value), maker_);
    EXPECT_TRUE(Fence(1));
    Ping();
    EXPECT_FALSE(received_.came());
    EXPECT_FALSE(sent_.came());
    software_gpu::Release(maker_);
    ASSERT_THAT(sent_.Wait(), IsOk());
    ASSERT_THAT(received_.Wait(), IsOk());
    EXPECT_TRUE(ReadOn(user_, received_.Wait()->message.tensors[0])
                    .equal(Expected(value)));
  }

  // What is received into while its user stands still comes whole after that.
  void ExpectToBeFilledAfterItsLastUse(const StreamSet& ready_on) {
    const at::Tensor into = Made(user_, -1);
    software_gpu::Hold(user_);
    Fill(into, -2, user_);
    Receive({.into = {{into}, {"a"}}, .ready_on = ready_on});
    Send(Made(maker_, 2), maker_);
    EXPECT_TRUE(Fence(1));
    software_gpu::Release(user_);
    ASSERT_THAT(received_.Wait(), IsOk());
    ASSERT_THAT(sent_.Wait(), IsOk());
    EXPECT_TRUE(ReadOn(user_, into).equal(Expected(2)));
  }

  const CUDAStream maker_ = getStreamFromPool(false, 0);
  const CUDAStream user_ = getStreamFromPool(false, 1);
  Ended<Received> received_;
  Ended<Receipt> sent_;
  Operation receiving_, sending_;

 private:
  int fences_ = 0;
};

TEST_P(SessionFenceTest, AMessageEndsAfterTheStreamThatMakesIt) {
  ExpectToEndAfterItsMaker(1);
}

TEST_P(SessionFenceTest, ATensorIsFilledAfterItsLastUse) {
  ExpectToBeFilledAfterItsLastUse({user_});
}

TEST_P(SessionFenceTest, WithoutAStreamTheCurrentOneHasTheLastUse) {
  const CUDAStreamGuard guard(user_);
  ExpectToBeFilledAfterItsLastUse({});
}

TEST_P(SessionFenceTest, ACancelledSendEndsAfterItsStream) {
  const at::Tensor tensor = Made(maker_, 3);
  software_gpu::Hold(maker_);
  Fill(tensor, 4, maker_);
  Receive();
  Send(tensor, maker_);
  EXPECT_TRUE(Fence(1));
  sending_.Cancel();
  EXPECT_TRUE(Fence(2));
  software_gpu::Release(maker_);
  EXPECT_THAT(sent_.Wait(), StatusIs(absl::StatusCode::kCancelled));
  const CUDAStream other = getStreamFromPool(false, 0);
  Fill(tensor, 0, other);
  other.synchronize();
  received_.Wait();
}

// Memory that libtorch's allocator knows nothing of.
TEST_P(SessionFenceTest, MemoryOfTheSendersStaysUntilItsStreamIsThrough) {
  void* data = nullptr;
  ASSERT_EQ(cudaMalloc(&data, kFloats * sizeof(float)), cudaSuccess);
  std::atomic<bool> given_back = false;
  at::Tensor tensor = at::from_blob(
      data, {kFloats}, [&given_back](void*) { given_back = true; },
      software_gpu::OnDevice(0));
  software_gpu::Hold(maker_);
  Fill(tensor, 13, maker_);
  Receive();
  Send(std::move(tensor), maker_);
  EXPECT_TRUE(Fence(1));
  sending_.Cancel();
  EXPECT_TRUE(Fence(2));
  Ping();
  EXPECT_FALSE(given_back);
  software_gpu::Release(maker_);
  EXPECT_THAT(sent_.Wait(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(given_back);
  received_.Wait().IgnoreError();
  EXPECT_EQ(cudaFree(data), cudaSuccess);
}

// All has been enqueued, so that it is too late to cancel.
TEST_P(SessionFenceTest, AReceiveThatIsCancelledLateEndsAfterItsStream) {
  const at::Tensor into = Made(user_, -1);
  const at::Tensor tensor = Made(maker_, 5);
  software_gpu::Hold(maker_);
  Fill(tensor, 6, maker_);
  Receive({.into = {{into}, {"a"}}, .ready_on = {user_}});
  Send(tensor, maker_);
  EXPECT_TRUE(Fence(1));
  receiving_.Cancel();
  Ping();
  EXPECT_FALSE(received_.came());
  software_gpu::Release(maker_);
  EXPECT_THAT(received_.Wait(), IsOk());
  const CUDAStream other = getStreamFromPool(false, 1);
  Fill(into, 0, other);
  other.synchronize();
  sent_.Wait();
}

TEST_P(SessionFenceTest, AViewIsGatheredOnTheStreamThatTheSenderChose) {
  const CUDAStream chosen = getStreamFromPool(false, 0);
  const CUDAStream before = c10::cuda::getCurrentCUDAStream(0);
  const at::Tensor tensor = Made(maker_, 7);
  Receive();
  sending_ = sender().Send({.type = kTensor,
                            .tensors = {tensor.slice(0, 0, kFloats, 4)},
                            .names = {"a"}},
                           {.ready_on = {maker_}, .streams = {chosen}},
                           sent_.Callback());
  EXPECT_EQ(c10::cuda::getCurrentCUDAStream(0), before);
  ASSERT_THAT(sent_.Wait(), IsOk());
  ASSERT_THAT(received_.Wait(), IsOk());
  EXPECT_TRUE(ReadOn(user_, received_.Wait()->message.tensors[0])
                  .equal(at::full({kFloats / 4}, 7, at::kFloat)));
}

// Over a path between CPUs.
class ThroughHostTest : public SessionFenceTest {
 protected:
  void Connect() override { Open("local"); }

  // Whether that many copies out of or into devices come to be enqueued.
  static bool Copies(int count) {
    int copies = 0;
    return Becomes([&] {
      copies += software_gpu::TakeCalls()["cudaMemcpyAsync"];
      return copies >= count;
    });
  }
};

TEST_P(ThroughHostTest, WhatIsSentIsCopiedFirst) {
  ExpectToEndAfterItsMaker(8);
}

TEST_P(ThroughHostTest, ATensorIsFilledAfterItsLastUse) {
  const at::Tensor into = Made(user_, -1);
  software_gpu::Hold(user_);
  Fill(into, -2, user_);
  Receive({.into = {{into}, {"a"}}, .ready_on = {user_}});
  const at::Tensor tensor = Made(maker_, 9);
  software_gpu::TakeCalls();
  Send(tensor, maker_);
  EXPECT_TRUE(Copies(2));  // out of one device, into the other
  EXPECT_FALSE(received_.came());
  software_gpu::Release(user_);
  ASSERT_THAT(received_.Wait(), IsOk());
  ASSERT_THAT(sent_.Wait(), IsOk());
  EXPECT_TRUE(ReadOn(user_, into).equal(Expected(9)));
}

// What was copied before it was cancelled is not sent.
TEST_P(ThroughHostTest, ACopyThatIsCancelledEndsAndTheNextArrives) {
  const at::Tensor tensor = Made(maker_, 10);
  software_gpu::Hold(maker_);
  Fill(tensor, 11, maker_);
  Receive();
  Send(tensor, maker_);
  EXPECT_TRUE(Fence(1));
  sending_.Cancel();
  Ping();
  software_gpu::Release(maker_);
  EXPECT_THAT(sent_.Wait(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(received_.Wait(), StatusIs(absl::StatusCode::kCancelled));
  sent_ = Ended<Receipt>();
  received_ = Ended<Received>();
  Receive();
  Send(Made(maker_, 12), maker_);
  EXPECT_THAT(sent_.Wait(), IsOk());
  ASSERT_THAT(received_.Wait(), IsOk());
  EXPECT_TRUE(
      ReadOn(user_, received_.Wait()->message.tensors[0]).equal(Expected(12)));
}

TEST_P(ThroughHostTest, AReceiveThatIsCancelledEndsAfterWhatItHasFilled) {
  constexpr int64_t kOfABody = 2 * kFloats;  // two are of two bodies
  const CUDAStream still = getStreamFromPool(false, 1);
  const at::Tensor into = Made(user_, -1, kOfABody);
  const at::Tensor tensor = Made(maker_, 14, kOfABody);
  const at::Tensor held = Made(still, 15, kOfABody);
  software_gpu::Hold(user_);
  Fill(into, -2, user_);
  software_gpu::Hold(still);
  Fill(held, 16, still);
  Receive({.into = {{into, Made(maker_, -1, kOfABody)}, {"a", "b"}},
           .ready_on = {user_}});
  software_gpu::TakeCalls();
  sending_ = sender().Send(
      {.type = kTensor, .tensors = {tensor, held}, .names = {"a", "b"}},
      {.ready_on = {maker_, still}}, sent_.Callback());
  EXPECT_TRUE(Copies(3));  // both out of their devices, one into the other
  receiving_.Cancel();
  Ping();
  EXPECT_FALSE(received_.came());
  software_gpu::Release(user_);
  EXPECT_THAT(received_.Wait(), StatusIs(absl::StatusCode::kCancelled));
  const CUDAStream other = getStreamFromPool(false, 1);
  Fill(into, 0, other);
  other.synchronize();
  software_gpu::Release(still);
  EXPECT_THAT(sent_.Wait(), StatusIs(absl::StatusCode::kCancelled));
}

// Tensors of the host's: no pinned memory that their sender had holds already
// what their receiver is to digest.
class FromHostTest : public ThroughHostTest {
 protected:
  void Connect() override { Open("local", {"cpu=cuda:1"}); }
};

TEST_P(FromHostTest, WhatIsReceivedIsCopiedBeforeItIsDigested) {
  software_gpu::Hold(user_);
  software_gpu::TakeCalls();
  Receive({.streams = {user_}});
  sending_ = sender().Send(
      {.type = kTensor, .tensors = {Expected(17)}, .names = {"a"}},
      {.digest_devices = true}, sent_.Callback());
  EXPECT_TRUE(Fence(2));  // one gives back what the copy there was made from
  software_gpu::Release(user_);
  ASSERT_THAT(received_.Wait(), IsOk());
  ASSERT_THAT(sent_.Wait(), IsOk());
  EXPECT_TRUE(
      ReadOn(user_, received_.Wait()->message.tensors[0]).equal(Expected(17)));
}

INSTANTIATE_TEST_SUITE_P(Lag, FromHostTest, ::testing::ValuesIn(testing::kLags),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Lag, ThroughHostTest,
                         ::testing::ValuesIn(testing::kLags),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Lag, SessionFenceTest,
                         ::testing::ValuesIn(testing::kLags),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tensorferry
