// Messages with tensors on GPUs, without a network: device copies take the
// place of channels.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/cuda/carry.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::Carry;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::DifferenceOf;
using ::tensorferry::testing::GpuTest;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::OnDevice;
using ::tensorferry::testing::ReadOn;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// More bytes than are packed.
constexpr int64_t kLarge = 100'000;

at::Tensor Values(int64_t n, int first = 0) {
  return at::arange(first, first + n, at::kFloat);
}

class SerializationTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    for (int device = 0; device <= other_; ++device) {
      const auto index = static_cast<c10::DeviceIndex>(device);
      making_.push_back(getStreamFromPool(false, index));
      sending_.push_back(getStreamFromPool(false, index));
      receiving_.push_back(getStreamFromPool(false, index));
    }
    send_.streams.assign(sending_.begin(), sending_.end());
    send_.ready_on.assign(making_.begin(), making_.end());
    receive_.streams.assign(receiving_.begin(), receiving_.end());
    Place({ToOther()});
    if (other_ > 0) Place({ToOther(), "cuda:1=cuda:0"});
  }

  void TearDown() override {
    receive_.into = Destination();
    GpuTest::TearDown();
  }

  std::string ToOther() const { return absl::StrCat("cuda:0=cuda:", other_); }

  void Place(const std::vector<std::string>& rules) {
    send_.placement.rules.clear();
    for (const std::string& rule : rules) {
      send_.placement.rules.push_back(*ParsePlacementRule(rule));
    }
  }

  at::Tensor Made(int device, const at::Tensor& values) const {
    return MadeOn(making_[device], values);
  }
  at::Tensor Read(const at::Tensor& tensor) const {
    return ReadOn(receiving_[tensor.get_device()], tensor);
  }

  // Named a, b, ...
  static TensorMessage MessageOf(std::vector<at::Tensor> tensors) {
    TensorMessage message{.tensors = std::move(tensors)};
    for (size_t i = 0; i < message.tensors.size(); ++i) {
      message.names.push_back(std::string(1, static_cast<char>('a' + i)));
    }
    return message;
  }

  absl::StatusOr<std::vector<at::Tensor>> Move(
      std::vector<at::Tensor> tensors) const {
    FERRY_ASSIGN_OR_RETURN(WriteBuffers sent,
                           Serialize(MessageOf(std::move(tensors)), send_));
    FERRY_ASSIGN_OR_RETURN(ReadBuffers filled,
                           Allocate(sent.manifest(), receive_));
    Carry(sent, filled);
    FERRY_ASSIGN_OR_RETURN(TensorMessage received,
                           Deserialize(std::move(filled)));
    return std::move(received.tensors);
  }

  const int other_ = testing::OtherGpu();
  std::vector<CUDAStream> making_, sending_, receiving_;  // by device
  SerializeOptions send_;
  AllocateOptions receive_;
};

// ---- what arrives

class SerializationMatrixTest
    : public SerializationTest,
      public ::testing::WithParamInterface<std::pair<int, int>> {};

TEST_P(SerializationMatrixTest, EveryKindOfTensorComesBackAsItWas) {
  const auto [from, to] = GetParam();
  if (std::max(from, to) > 0) testing::SkipUnlessThereAreTwoGpus();
  if (IsSkipped()) return;
  Place({absl::StrCat("cuda:", from, "=cuda:", to)});
  const c10::Device source(c10::kCUDA, static_cast<c10::DeviceIndex>(from));
  const c10::Device target(c10::kCUDA, static_cast<c10::DeviceIndex>(to));
  for (const testing::MatrixCase& one : testing::TensorMatrix()) {
    SCOPED_TRACE(one.name);
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> sent,
                               CopiedTo(source, one.tensors));
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got, Move(sent));
    for (const at::Tensor& tensor : got) EXPECT_EQ(tensor.device(), target);
    receiving_[to].synchronize();
    FERRY_ASSERT_OK_AND_ASSIGN(got, CopiedTo(at::kCPU, std::move(got)));
    EXPECT_EQ(DifferenceOf(one.tensors, got), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, SerializationMatrixTest,
                         ::testing::Values(std::pair{0, 0}, std::pair{0, 1},
                                           std::pair{1, 1}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.first, "_to_",
                                               info.param.second);
                         });

TEST_F(SerializationTest, AMessageMayTouchAllDevices) {
  testing::SkipUnlessThereAreTwoGpus();
  if (IsSkipped()) return;
  Place({"name:c=cpu", "name:d=cuda:1", "cuda:0=cuda:1", "cuda:1=cuda:0"});
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> got,
      Move({Made(0, Values(kLarge)), Made(1, Values(kLarge, 1)),
            Made(1, Values(kLarge, 2)), Values(kLarge, 3)}));
  EXPECT_EQ(got[0].get_device(), 1);
  EXPECT_EQ(got[1].get_device(), 0);
  EXPECT_TRUE(got[2].is_cpu());
  EXPECT_EQ(got[3].get_device(), 1);
  sending_[1].synchronize();
  EXPECT_TRUE(Read(got[0]).equal(Values(kLarge)));
  EXPECT_TRUE(Read(got[1]).equal(Values(kLarge, 1)));
  EXPECT_TRUE(got[2].equal(Values(kLarge, 2)));
  EXPECT_TRUE(Read(got[3]).equal(Values(kLarge, 3)));
}

TEST_F(SerializationTest, SmallTensorsShareABufferForEachSourceAndTarget) {
  testing::SkipUnlessThereAreTwoGpus();
  if (IsSkipped()) return;
  Place({"name:d=cpu", "cuda:0=cuda:1", "cuda:1=cuda:0"});
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(MessageOf({Made(0, Values(3)), Made(0, Values(5)),
                           Made(1, Values(7)), Made(0, Values(9)),
                           Made(0, Values(11)), Made(0, Values(kLarge))}),
                send_));
  const Manifest& manifest = sent.manifest();
  // 0 -> 1, 1 -> 0, 0 -> cpu, and the large one.
  ASSERT_EQ(manifest.buffer_count(), 4);
  EXPECT_EQ(manifest.storage_buffer(0), manifest.storage_buffer(1));
  EXPECT_EQ(manifest.storage_buffer(0), manifest.storage_buffer(4));
  EXPECT_EQ(manifest.buffer_storages(manifest.storage_buffer(0)), 3);
  EXPECT_EQ(manifest.buffer_storages(manifest.storage_buffer(2)), 1);
  EXPECT_EQ(manifest.buffer_storages(manifest.storage_buffer(3)), 1);
  EXPECT_EQ(manifest.buffer_storages(manifest.storage_buffer(5)), 1);
}

TEST_F(SerializationTest, SmallTensorsArriveWithStoragesOfTheirOwn) {
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 20; ++i) tensors.push_back(Made(0, Values(i, i)));
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got,
                             Move(std::move(tensors)));
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(Read(got[i]).equal(Values(i, i))) << i;
    EXPECT_EQ(got[i].storage().nbytes(), i * sizeof(float)) << i;
  }
}

TEST_F(SerializationTest, OfAViewOnlyItsSpanIsSentAndNothingIsCopied) {
  const at::Tensor base = Made(0, Values(3 * kLarge));
  const at::Tensor view = base.slice(0, kLarge, 2 * kLarge);
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({view}), send_));
  ASSERT_EQ(sent.manifest().buffer_count(), 1);
  EXPECT_EQ(sent.regions()[0].nbytes, view.nbytes());
  EXPECT_EQ(static_cast<const void*>(sent.regions()[0].data), view.data_ptr());
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got, Move({view}));
  EXPECT_TRUE(Read(got[0]).equal(Values(kLarge, kLarge)));
}

TEST_F(SerializationTest, AViewWithManyHolesIsGatheredOnItsDevice) {
  const at::Tensor column =
      Made(0, Values(64 * kLarge).view({kLarge, 64})).select(1, 17);
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({column}), send_));
  EXPECT_EQ(sent.regions()[0].nbytes, kLarge * sizeof(float));
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got, Move({column}));
  EXPECT_TRUE(
      Read(got[0]).equal(Values(64 * kLarge).view({kLarge, 64}).select(1, 17)));
}

TEST_F(SerializationTest, MemoryThatLibtorchDoesNotOwnIsSentAsItIs) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, kLarge * sizeof(float)), cudaSuccess);
  {
    at::Tensor foreign = at::from_blob(memory, {kLarge}, OnDevice(0));
    const CUDAStreamGuard guard(making_[0]);
    foreign.copy_(Values(kLarge).pin_memory(), /*non_blocking=*/true);
    FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                               Serialize(MessageOf({foreign}), send_));
    EXPECT_EQ(static_cast<void*>(sent.regions()[0].data), memory);
    FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got,
                               Move({std::move(foreign)}));
    EXPECT_TRUE(Read(got[0]).equal(Values(kLarge)));
  }
  sending_[0].synchronize();
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(SerializationTest, TensorsWithoutBytesArrive) {
  Place({ToOther()});
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<at::Tensor> got,
      Move({at::empty({0}, OnDevice(0)), at::empty({3, 0, 5}, OnDevice(0)),
            Made(0, Values(8)).slice(0, 8, 8)}));
  EXPECT_EQ(got[1].sizes(), at::IntArrayRef({3, 0, 5}));
  for (const at::Tensor& tensor : got) {
    EXPECT_EQ(tensor.numel(), 0);
    EXPECT_EQ(tensor.get_device(), other_);
  }
}

// ---- into the caller's tensors

TEST_F(SerializationTest, LargeDestinationsAreFilledWithoutACopy) {
  at::Tensor into = Made(other_, Values(kLarge, -kLarge));
  testing::WaitFor(making_[other_], receiving_[other_]);
  receive_.into = {{into}, {"a"}};
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(MessageOf({Made(0, Values(kLarge))}), send_));
  FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers filled,
                             Allocate(sent.manifest(), receive_));
  EXPECT_EQ(static_cast<void*>(filled.regions()[0].data), into.data_ptr());
  EXPECT_EQ(filled.bounced(), 0);
  Carry(sent, filled);
  ASSERT_THAT(Deserialize(std::move(filled)), IsOk());
  EXPECT_TRUE(Read(into).equal(Values(kLarge)));
}

TEST_F(SerializationTest, SmallAndStridedDestinationsAreFilledToo) {
  at::Tensor small = Made(other_, Values(8, 100)),
             other = Made(other_, Values(8, 100));
  at::Tensor wide = Made(other_, Values(2 * kLarge, -kLarge));
  testing::WaitFor(making_[other_], receiving_[other_]);
  receive_.into = {{small, other, wide.slice(0, 0, 2 * kLarge, 2)},
                   {"a", "b", "c"}};
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got,
                             Move({Made(0, Values(8)), Made(0, Values(8, 8)),
                                   Made(0, Values(kLarge))}));
  EXPECT_EQ(got[0].data_ptr(), small.data_ptr());
  EXPECT_TRUE(Read(small).equal(Values(8)));
  EXPECT_TRUE(Read(other).equal(Values(8, 8)));
  const at::Tensor host = Read(wide);
  EXPECT_TRUE(host.slice(0, 0, 2 * kLarge, 2).equal(Values(kLarge)));
  // What lies between is as it was.
  EXPECT_TRUE(
      host.slice(0, 1, 2 * kLarge, 2)
          .equal(Values(2 * kLarge, -kLarge).slice(0, 1, 2 * kLarge, 2)));
}

TEST_F(SerializationTest, ADeviceThatIsNotThereIsRefused) {
  Place({"cuda:0=cuda:63"});
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(MessageOf({Made(0, Values(kLarge))}), send_));
  EXPECT_THAT(
      Allocate(sent.manifest(), receive_),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cuda:63")));
  // Even if somebody names a stream of it.
  receive_.streams.push_back(
      c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::kCUDA, 63)));
  EXPECT_THAT(
      Allocate(sent.manifest(), receive_),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cuda:63")));
}

#ifndef FERRY_REAL_GPU

// ---- on the software GPU only: that the host does not wait, and what fails

class OnSoftwareGpuTest : public SerializationTest {
 protected:
  void TearDown() override {
    software_gpu::ClearFailures();
    SerializationTest::TearDown();
  }

  // From now on the stream's device fails every call.
  static void Fail(CUDAStream stream, cudaError_t error) {
    software_gpu::FailDevice(stream, error);
    EXPECT_EQ(cudaStreamSynchronize(stream), error);
    EXPECT_EQ(cudaGetLastError(), error);  // told, and forgotten
  }
};

TEST_F(OnSoftwareGpuTest, NoCallWaitsForADevice) {
  at::Tensor wide = Made(1, Values(2 * kLarge, -kLarge));
  testing::WaitFor(making_[1], receiving_[1]);
  receive_.into = {{wide.slice(0, 0, 2 * kLarge, 2)}, {"b"}};
  const std::vector<at::Tensor> tensors = {
      Made(0, Values(10)), Made(0, Values(kLarge)), Made(0, Values(20)),
      Made(0, Values(8 * kLarge)).slice(0, 0, 8 * kLarge, 8),
      Made(1, Values(kLarge))};
  software_gpu::TakeSynchronisingCalls();
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got, Move(tensors));
  EXPECT_THAT(software_gpu::TakeSynchronisingCalls(), IsEmpty());
  EXPECT_TRUE(Read(got[1]).equal(Values(kLarge)));
}

TEST_F(OnSoftwareGpuTest, ADeviceWithoutMemoryIsNamed) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(MessageOf({Made(0, Values(kLarge))}), send_));
  software_gpu::SetMemoryLimit(1, software_gpu::MemoryUsed(1));
  EXPECT_THAT(Allocate(sent.manifest(), receive_),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("400000 bytes"), HasSubstr("cuda:1"),
                             HasSubstr("cudaErrorMemoryAllocation"))));
  software_gpu::SetMemoryLimit(1, size_t{4} << 30);
  EXPECT_THAT(Allocate(sent.manifest(), receive_), IsOk());
}

TEST_F(OnSoftwareGpuTest, ADeviceWithoutMemoryToPackIsNamed) {
  const at::Tensor a = Made(0, Values(10)), b = Made(0, Values(1));
  software_gpu::SetMemoryLimit(0, software_gpu::MemoryUsed(0));
  EXPECT_THAT(Serialize(MessageOf({a, b}), send_),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("cudaErrorMemoryAllocation")));
  software_gpu::SetMemoryLimit(0, size_t{4} << 30);
}

TEST_F(OnSoftwareGpuTest, AFailedDeviceIsNamedAndTheOtherGoesOn) {
  at::Tensor on_0 = Made(0, Values(kLarge)), on_1 = Made(1, Values(kLarge));
  Place({"cuda:0=cuda:0", "cuda:1=cuda:1"});
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({on_0}), send_));
  making_[0].synchronize();
  Fail(making_[0], cudaErrorIllegalAddress);
  const auto is_named = AllOf(
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("cudaErrorIllegalAddress")),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cuda:0")));
  EXPECT_THAT(Serialize(MessageOf({on_0}), send_), is_named);
  EXPECT_THAT(Allocate(sent.manifest(), receive_), is_named);
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<at::Tensor> got, Move({on_1}));
  EXPECT_TRUE(Read(got[0]).equal(Values(kLarge)));
  // libtorch ends the process if memory that was recorded on a stream is given
  // back after its device has failed.
  software_gpu::ClearFailures();
}

#endif  // FERRY_REAL_GPU

}  // namespace
}  // namespace tensorferry
