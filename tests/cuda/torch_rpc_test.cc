// libtorch's own functions for tensors on GPUs are the oracle, as in
// tests/serialization/torch_rpc_parity_test.cc; device copies take the place of
// a pipe.

// libtorch was built with TensorPipe; its header wants to be told.
#define USE_TENSORPIPE 1

#include "serialization/torch_rpc.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/common/cpu_buffer.h>
#include <tensorpipe/common/cuda_buffer.h>
#include <tensorpipe/core/message.h>
#include <torch/csrc/distributed/rpc/message.h>
#include <torch/csrc/distributed/rpc/tensorpipe_utils.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "tests/cuda/carry.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

namespace rpc = torch::distributed::rpc;
using ::c10::cuda::CUDAStream;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::Aliasing;
using ::tensorferry::testing::GpuTest;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::OnDevice;
using ::tensorferry::testing::ReadOn;
using ::testing::IsEmpty;

using Tensors = std::vector<at::Tensor>;
using Devices = std::vector<c10::Device>;

constexpr uint32_t kType = rpc::MessageType::PYTHON_CALL;
constexpr int64_t kId = 77;
constexpr char kPayload[] = "payload";

const c10::Device kCpu(c10::kCPU);
const c10::Device kCuda0(c10::kCUDA, 0);

// Where there is one GPU it is both.
c10::Device OtherCuda() {
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(testing::OtherGpu())};
}

// What the pipe tells the other side.
tensorpipe::Descriptor DescriptorOf(const tensorpipe::Message& message) {
  tensorpipe::Descriptor descriptor;
  for (const auto& payload : message.payloads) {
    descriptor.payloads.emplace_back().length = payload.length;
  }
  for (const auto& tensor : message.tensors) {
    auto& described = descriptor.tensors.emplace_back();
    described.length = tensor.length;
    if (tensor.length > 0) described.sourceDevice = tensor.buffer.device();
    described.targetDevice = tensor.targetDevice;
  }
  return descriptor;
}

// A buffer of either kind; the CPU's has no stream.
struct Place {
  void* data;
  cudaStream_t stream;
  bool on_cpu;
};

Place PlaceOf(const tensorpipe::Buffer& buffer) {
  auto& place = const_cast<tensorpipe::Buffer&>(buffer);
  if (place.device().type == "cpu") {
    return {place.unwrap<tensorpipe::CpuBuffer>().ptr, nullptr, true};
  }
  const auto& cuda = place.unwrap<tensorpipe::CudaBuffer>();
  return {cuda.ptr, cuda.stream, false};
}

class TorchRpcTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    sending_.assign(2, getStreamFromPool(false, 0));
    receiving_.assign(2, getStreamFromPool(false, 0));
    if (OtherCuda() == kCuda0) return;
    sending_[1] = getStreamFromPool(false, OtherCuda().index());
    receiving_[1] = getStreamFromPool(false, OtherCuda().index());
  }

  std::vector<c10::Stream> Streams(const std::vector<CUDAStream>& of) const {
    return {of.begin(), of.end()};
  }

  // Tensors on the streams that will carry them: who else makes a tensor has to
  // order the two, with libtorch as with ours.
  Tensors Made() const {
    const at::Tensor base =
        MadeOn(sending_[0], at::arange(64, at::kFloat).view({8, 8}));
    // The alias last: libtorch finds targets by the number of the storage.
    return {base, MadeOn(sending_[1], at::arange(100'000, at::kDouble)),
            at::arange(5, at::kInt),
            MadeOn(sending_[0], at::full({3}, 7, at::kHalf)), base.t()};
  }
  static Devices Permuted() {
    const c10::Device other = OtherCuda();
    return {other, kCuda0, kCpu, other, other};
  }

  struct SeedWrite {
    tensorpipe::Message message;
    rpc::TensorpipeWriteBuffers buffers;
  };
  SeedWrite WriteWithLibtorch(const Tensors& tensors, Devices targets) const {
    auto message = c10::make_intrusive<rpc::Message>(
        std::vector<char>(kPayload, kPayload + sizeof(kPayload)),
        Tensors(tensors), static_cast<rpc::MessageType>(kType), kId);
    auto [wire, buffers] = rpc::tensorpipeSerialize(message, std::move(targets),
                                                    Streams(sending_));
    return {std::move(wire), std::move(buffers)};
  }
  absl::StatusOr<TorchRpcWrite> WriteWithOurs(const Tensors& tensors,
                                              const Devices& targets) const {
    TensorMessage message{.type = kType, .id = kId, .tensors = tensors};
    message.payload.assign(kPayload, sizeof(kPayload));
    return TorchRpcSerialize(std::move(message), targets,
                             {.streams = Streams(sending_)});
  }

  Tensors ReadWithLibtorch(const tensorpipe::Message& wire) const {
    const tensorpipe::Descriptor descriptor = DescriptorOf(wire);
    auto [allocation, buffers] =
        rpc::tensorpipeAllocate(descriptor, Streams(receiving_));
    Carry(wire, allocation);
    auto read = rpc::tensorpipeDeserialize(descriptor, std::move(buffers));
    EXPECT_EQ(read->id(), kId);
    return read->tensors();
  }
  absl::StatusOr<Tensors> ReadWithOurs(const tensorpipe::Message& wire) const {
    FERRY_ASSIGN_OR_RETURN(TorchRpcRead read,
                           TorchRpcAllocate(DescriptorOf(wire), {},
                                            {.streams = Streams(receiving_)}));
    Carry(wire, read.allocation);
    FERRY_ASSIGN_OR_RETURN(TensorMessage message,
                           TorchRpcDeserialize(std::move(read.buffers)));
    EXPECT_EQ(message.id, kId);
    return std::move(message.tensors);
  }

  void Carry(const tensorpipe::Message& from,
             const tensorpipe::Allocation& to) const {
    for (size_t i = 0; i < from.payloads.size(); ++i) {
      std::memcpy(to.payloads[i].data, from.payloads[i].data,
                  from.payloads[i].length);
    }
    ASSERT_EQ(from.tensors.size(), to.tensors.size());
    for (size_t i = 0; i < from.tensors.size(); ++i) {
      if (from.tensors[i].length == 0) continue;
      Copy(PlaceOf(to.tensors[i].buffer), PlaceOf(from.tensors[i].buffer),
           from.tensors[i].length);
    }
  }
  void Copy(const Place& to, const Place& from, size_t nbytes) const {
    ASSERT_EQ(to.on_cpu, from.on_cpu);
    if (to.on_cpu) {
      std::memcpy(to.data, from.data, nbytes);
      return;
    }
    const CUDAStream sent = StreamOf(from.stream, sending_);
    const CUDAStream got = StreamOf(to.stream, receiving_);
    testing::WaitFor(sent, got);
    const c10::cuda::CUDAStreamGuard guard(got);
    EXPECT_EQ(
        cudaMemcpyAsync(to.data, from.data, nbytes, cudaMemcpyDefault, got),
        cudaSuccess);
    testing::WaitFor(got, sent);
  }
  static CUDAStream StreamOf(cudaStream_t handle,
                             const std::vector<CUDAStream>& among) {
    EXPECT_TRUE(handle == among[0].stream() || handle == among[1].stream());
    return handle == among[1].stream() ? among[1] : among[0];
  }

  // That `got` is what Made() and Permuted() ask for.
  void ExpectArrived(const Tensors& got) const {
    const Tensors sent = Made();
    const Devices targets = Permuted();
    ASSERT_EQ(got.size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(got[i].device(), targets[i]);
      EXPECT_EQ(got[i].strides(), sent[i].strides());
      EXPECT_TRUE(OnHost(got[i], receiving_).equal(OnHost(sent[i], sending_)));
    }
    EXPECT_EQ(Aliasing(got), Aliasing(sent));
  }
  static at::Tensor OnHost(const at::Tensor& tensor,
                           const std::vector<CUDAStream>& streams) {
    if (tensor.is_cpu()) return tensor;
    return ReadOn(streams[tensor.get_device()], tensor);
  }

  std::vector<CUDAStream> sending_, receiving_;  // by device
};

TEST_F(TorchRpcTest, OursReadsWhatLibtorchWrote) {
  const SeedWrite seed = WriteWithLibtorch(Made(), Permuted());
  FERRY_ASSERT_OK_AND_ASSIGN(Tensors got, ReadWithOurs(seed.message));
  ExpectArrived(got);
}

TEST_F(TorchRpcTest, LibtorchReadsWhatOursWrote) {
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(Made(), Permuted()));
  ExpectArrived(ReadWithLibtorch(ours.message));
}

TEST_F(TorchRpcTest, BothWriteTheSame) {
  const Tensors tensors = {MadeOn(sending_[0], at::arange(9, at::kFloat)),
                           at::arange(4),
                           at::empty({0}, OnDevice(testing::OtherGpu()))};
  const Devices targets = {OtherCuda(), kCpu, kCuda0};
  const SeedWrite seed = WriteWithLibtorch(tensors, targets);
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, targets));
  ASSERT_EQ(ours.message.payloads.size(), seed.message.payloads.size());
  for (size_t i = 0; i < seed.message.payloads.size(); ++i) {
    const auto& a = ours.message.payloads[i];
    const auto& b = seed.message.payloads[i];
    EXPECT_EQ(std::string(static_cast<const char*>(a.data), a.length),
              std::string(static_cast<const char*>(b.data), b.length));
  }
  ASSERT_EQ(ours.message.tensors.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const auto& a = ours.message.tensors[i];
    const auto& b = seed.message.tensors[i];
    EXPECT_EQ(a.length, b.length);
    EXPECT_EQ(a.targetDevice->toString(), b.targetDevice->toString());
    if (a.length == 0) continue;
    EXPECT_EQ(PlaceOf(a.buffer).data, PlaceOf(b.buffer).data);
    EXPECT_EQ(PlaceOf(a.buffer).stream, PlaceOf(b.buffer).stream);
  }
}

#ifndef FERRY_REAL_GPU

TEST_F(TorchRpcTest, NeitherSideWaitsForADevice) {
  const Tensors tensors = {
      MadeOn(sending_[0], at::arange(100'000, at::kFloat))};
  software_gpu::TakeSynchronisingCalls();
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, {OtherCuda()}));
  FERRY_ASSERT_OK_AND_ASSIGN(Tensors got, ReadWithOurs(ours.message));
  EXPECT_THAT(software_gpu::TakeSynchronisingCalls(), IsEmpty());
  EXPECT_TRUE(
      ReadOn(receiving_[1], got[0]).equal(at::arange(100'000, at::kFloat)));
}

#endif  // FERRY_REAL_GPU

}  // namespace
}  // namespace tensorferry
