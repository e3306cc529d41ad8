// Each edge of the order between streams that serialization and the converter
// have to make. mutation/ proves that each is needed, and found when missing.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/cuda/carry.h"
#include "tests/cuda/lags.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::c10::cuda::getDefaultCUDAStream;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::software_gpu::OnDevice;
using ::tensorferry::software_gpu::SoftwareGpuTorchTest;
using ::tensorferry::testing::Carry;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::ReadOn;
using ::tensorferry::testing::WaitFor;

constexpr int64_t kLarge = 100'000;  // floats; not packed
constexpr int64_t kSmall = 100;      // floats; packed

// A message's way from cuda:0 to cuda:1. A test fails for a race too.
class OrderTest : public SoftwareGpuTorchTest,
                  public ::testing::WithParamInterface<testing::Lag> {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    software_gpu::SetSchedule(GetParam().schedule);
    const DeviceId there{"cuda", 1};
    send_.placement.rules = {
        {PlacementRule::Kind::kDevice, {"cuda", 0}, "", there}};
    send_.streams = {sending_};
    send_.ready_on = {making_};
    receive_.streams = {receiving_};
  }
  void TearDown() override {
    // Back to where their memory was taken from.
    received_ = TensorMessage();
    receive_.into = Destination();
    SoftwareGpuTorchTest::TearDown();
  }

  static at::Tensor Values(int64_t n, int first = 0) {
    return at::arange(first, first + n, at::kFloat);
  }

  // The whole way. Nothing waits.
  void Move(std::vector<at::Tensor> tensors) {
    TensorMessage message{.tensors = std::move(tensors)};
    for (size_t i = 0; i < message.tensors.size(); ++i) {
      message.names.push_back(std::string(1, static_cast<char>('a' + i)));
    }
    FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                               Serialize(std::move(message), send_));
    FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers filled,
                               Allocate(sent.manifest(), receive_));
    Carry(sent, filled);
    FERRY_ASSERT_OK_AND_ASSIGN(received_, Deserialize(std::move(filled)));
  }

  void ExpectReceived(const std::vector<at::Tensor>& values) {
    ASSERT_EQ(received_.tensors.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(ReadOn(receiving_, received_.tensors[i]).equal(values[i]))
          << "tensor " << i;
    }
  }

  // Whoever gets the memory of what was dropped writes to it.
  void OverwriteDropped(CUDAStream stream, int64_t n) {
    const CUDAStreamGuard guard(stream);
    for (int i = 0; i < 4; ++i) later_.push_back(MadeOn(stream, Values(n, -n)));
  }

  const DeviceConverter& converter() const {
    return **ConverterRegistry::Global().Find(c10::kCUDA);
  }

  // Puts `values` into `tensor`, on `stream`.
  void FromHost(const at::Tensor& values, const at::Tensor& tensor,
                CUDAStream stream) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        c10::DataPtr memory,
        converter().HostMemory(values.nbytes(), tensor.device()));
    software_gpu::HostWrites(memory.get(), values.nbytes());
    std::memcpy(memory.get(), values.const_data_ptr(), values.nbytes());
    ASSERT_THAT(converter().CopyFromHost(
                    std::move(memory), values.nbytes(),
                    static_cast<std::byte*>(tensor.mutable_data_ptr()), stream),
                IsOk());
  }

  const CUDAStream making_ = getStreamFromPool(false, 0);
  const CUDAStream sending_ = getStreamFromPool(false, 0);
  const CUDAStream receiving_ = getStreamFromPool(false, 1);
  SerializeOptions send_;
  AllocateOptions receive_;
  TensorMessage received_;
  std::vector<at::Tensor> later_;
};

TEST_P(OrderTest, WhatIsSentIsMadeFirst) {
  Move({MadeOn(making_, Values(kLarge))});
  ExpectReceived({Values(kLarge)});
}

TEST_P(OrderTest, WithoutAStreamTheCurrentOneMakesWhatIsSent) {
  send_.ready_on.clear();
  {
    const CUDAStreamGuard guard(making_);
    Move({MadeOn(making_, Values(kLarge))});
  }
  ExpectReceived({Values(kLarge)});
}

// The sending stream stands still in tests like this: the host would learn, as
// it asks whether it can be used, that the work is over.
TEST_P(OrderTest, WhatIsSentStaysUntilItIsCarried) {
  software_gpu::Hold(sending_);
  Move({MadeOn(making_, Values(kLarge))});
  OverwriteDropped(making_, kLarge);
  software_gpu::Release(sending_);
  ExpectReceived({Values(kLarge)});
  later_.clear();
}

TEST_P(OrderTest, MemoryToReceiveIntoIsFreeOnTheReceivingStream) {
  // Written to on another stream, and given back.
  at::full({kLarge}, -1, OnDevice(1));
  Move({MadeOn(making_, Values(kLarge))});
  WaitFor(getDefaultCUDAStream(1), receiving_);  // to see what it wrote
  ExpectReceived({Values(kLarge)});
}

TEST_P(OrderTest, SmallTensorsArePackedOnTheCarryingStream) {
  Move({MadeOn(making_, Values(kSmall)), MadeOn(making_, Values(kSmall, 7))});
  ExpectReceived({Values(kSmall), Values(kSmall, 7)});
}

TEST_P(OrderTest, WhatIsPackedStaysUntilItWasCopied) {
  software_gpu::Hold(sending_);
  Move({MadeOn(making_, Values(kSmall)), MadeOn(making_, Values(kSmall, 7))});
  OverwriteDropped(making_, kSmall);
  software_gpu::Release(sending_);
  ExpectReceived({Values(kSmall), Values(kSmall, 7)});
  later_.clear();
}

TEST_P(OrderTest, AViewIsGatheredOnTheCarryingStream) {
  Move({MadeOn(making_, Values(4 * kLarge)).slice(0, 0, 4 * kLarge, 4)});
  ExpectReceived({Values(4 * kLarge).slice(0, 0, 4 * kLarge, 4)});
}

TEST_P(OrderTest, WhatIsGatheredStaysUntilItWasCopied) {
  software_gpu::Hold(sending_);
  Move({MadeOn(making_, Values(4 * kLarge)).slice(0, 0, 4 * kLarge, 4)});
  OverwriteDropped(making_, 4 * kLarge);
  software_gpu::Release(sending_);
  ExpectReceived({Values(4 * kLarge).slice(0, 0, 4 * kLarge, 4)});
  later_.clear();
}

TEST_P(OrderTest, SmallDestinationsAreUnpackedOnTheReceivingStream) {
  receive_.into.names = {"a", "b"};
  receive_.into.tensors = {MadeOn(receiving_, Values(kSmall, -kSmall)),
                           MadeOn(receiving_, Values(kSmall, -kSmall))};
  Move({MadeOn(making_, Values(kSmall)), MadeOn(making_, Values(kSmall, 7))});
  ExpectReceived({Values(kSmall), Values(kSmall, 7)});
}

TEST_P(OrderTest, ABounceIsCopiedOnTheReceivingStream) {
  const at::Tensor wide = MadeOn(receiving_, Values(2 * kLarge, -kLarge));
  receive_.into.names = {"a"};
  receive_.into.tensors = {wide.slice(0, 0, 2 * kLarge, 2)};
  Move({MadeOn(making_, Values(kLarge))});
  ExpectReceived({Values(kLarge)});
}

// The bounce buffer is freed before it was copied from.
TEST_P(OrderTest, ABounceStaysUntilItWasCopied) {
  const at::Tensor wide = MadeOn(receiving_, Values(2 * kLarge, -kLarge));
  receive_.into.names = {"a"};
  receive_.into.tensors = {wide.slice(0, 0, 2 * kLarge, 2)};
  Move({MadeOn(making_, Values(kLarge))});
  OverwriteDropped(receiving_, kLarge);
  ExpectReceived({Values(kLarge)});
  later_.clear();
}

TEST_P(OrderTest, ASmallTensorStaysForTheStreamThatItIsRecordedOn) {
  Move({MadeOn(making_, Values(kSmall)), MadeOn(making_, Values(kSmall, 7))});
  const CUDAStream user = getStreamFromPool(false, 1);
  WaitFor(receiving_, user);
  at::Tensor copy;
  {
    const CUDAStreamGuard guard(user);
    copy = received_.tensors[1].clone();
    received_.tensors[1].record_stream(user);
  }
  received_ = TensorMessage();
  OverwriteDropped(receiving_, 3 * kSmall);
  OverwriteDropped(receiving_, 2 * kSmall);
  EXPECT_TRUE(ReadOn(user, copy).equal(Values(kSmall, 7)));
  later_.clear();
}

// ---- the converter by itself

const std::byte* DataOf(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}

bool Holds(const c10::DataPtr& copy, const at::Tensor& values) {
  software_gpu::HostReads(copy.get(), values.nbytes());
  return std::memcmp(copy.get(), values.const_data_ptr(), values.nbytes()) == 0;
}

TEST_P(OrderTest, ACopyToTheHostIsMadeInTheOrderOfItsStream) {
  const at::Tensor made = MadeOn(making_, Values(kLarge));
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy,
      converter().CopyToHost(DataOf(made), made.nbytes(), making_));
  making_.synchronize();
  EXPECT_TRUE(Holds(copy, Values(kLarge)));
}

// Of pinned memory.
TEST_P(OrderTest, ACopyThatWasDroppedDoesNotEndInAnother) {
  const at::Tensor dropped = MadeOn(making_, Values(kLarge, -kLarge));
  const at::Tensor made = MadeOn(sending_, Values(kLarge));
  ASSERT_THAT(converter().CopyToHost(DataOf(dropped), made.nbytes(), making_),
              IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy,
      converter().CopyToHost(DataOf(made), made.nbytes(), sending_));
  sending_.synchronize();
  making_.synchronize();
  EXPECT_TRUE(Holds(copy, Values(kLarge)));
}

TEST_P(OrderTest, ACopyFromTheHostIsMadeInTheOrderOfItsStream) {
  const at::Tensor made = MadeOn(making_, Values(kLarge, -kLarge));
  FromHost(Values(kLarge), made, making_);
  EXPECT_TRUE(ReadOn(making_, made).equal(Values(kLarge)));
}

TEST_P(OrderTest, MemoryOfTheHostStaysUntilItWasCopied) {
  const at::Tensor made = MadeOn(making_, Values(kLarge, -kLarge));
  FromHost(Values(kLarge), made, making_);
  const at::Tensor other = MadeOn(sending_, Values(kLarge, -kLarge));
  FromHost(Values(kLarge, 2 * kLarge), other, sending_);
  EXPECT_TRUE(ReadOn(making_, made).equal(Values(kLarge)));
  EXPECT_TRUE(ReadOn(sending_, other).equal(Values(kLarge, 2 * kLarge)));
}

TEST_P(OrderTest, WhatWaitsForAStreamRunsAfterItsWork) {
  const at::Tensor made = MadeOn(making_, Values(kLarge));
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy,
      converter().CopyToHost(DataOf(made), made.nbytes(), making_));
  auto came = std::make_shared<absl::Notification>();
  converter().WhenReached(making_, [came](absl::Status) { came->Notify(); });
  ASSERT_TRUE(came->WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_TRUE(Holds(copy, Values(kLarge)));
}

INSTANTIATE_TEST_SUITE_P(Lag, OrderTest, ::testing::ValuesIn(testing::kLags),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tensorferry
