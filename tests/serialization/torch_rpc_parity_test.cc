// libtorch's own functions, which its library exports, are the oracle. They
// run in this process; bytes go from one side to the other by memcpy where a
// pipe would carry them.

// libtorch was built with TensorPipe; its header wants to be told.
#define USE_TENSORPIPE 1

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/common/cpu_buffer.h>
#include <tensorpipe/core/message.h>
#include <torch/csrc/distributed/rpc/message.h>
#include <torch/csrc/distributed/rpc/tensorpipe_utils.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "serialization/torch_rpc.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

namespace rpc = torch::distributed::rpc;
using ::tensorferry::testing::Aliasing;
using ::tensorferry::testing::Difference;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::MatrixCase;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::TensorMatrix;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Tensors = std::vector<at::Tensor>;
using Devices = std::vector<c10::Device>;

constexpr uint32_t kType = rpc::MessageType::PYTHON_CALL;
constexpr int64_t kId = -7'000'000'000;
constexpr char kUserPayload[] = "a \0 payload";

const c10::Device kCpu(c10::kCPU);
const c10::Device kCuda0(c10::kCUDA, 0);
const c10::Device kCuda1(c10::kCUDA, 1);

std::string UserPayload() {
  return std::string(kUserPayload, sizeof(kUserPayload));
}

// --- each side's writer and reader ---

struct SeedWrite {
  tensorpipe::Message message;
  rpc::TensorpipeWriteBuffers buffers;
};

SeedWrite WriteWithLibtorch(const Tensors& tensors, Devices targets = {}) {
  std::string payload = UserPayload();
  auto message = c10::make_intrusive<rpc::Message>(
      std::vector<char>(payload.begin(), payload.end()), Tensors(tensors),
      static_cast<rpc::MessageType>(kType), kId);
  auto [wire, buffers] =
      rpc::tensorpipeSerialize(message, std::move(targets), {});
  return {std::move(wire), std::move(buffers)};
}

absl::StatusOr<TorchRpcWrite> WriteWithOurs(const Tensors& tensors,
                                            const Devices& targets = {}) {
  TensorMessage message;
  message.type = kType;
  message.id = kId;
  message.payload = UserPayload();
  message.tensors = tensors;
  return TorchRpcSerialize(std::move(message), targets);
}

tensorpipe::Descriptor DescriptorOf(const tensorpipe::Message& message) {
  tensorpipe::Descriptor descriptor;
  for (const auto& payload : message.payloads) {
    descriptor.payloads.emplace_back().length = payload.length;
  }
  for (const auto& tensor : message.tensors) {
    auto& described = descriptor.tensors.emplace_back();
    described.length = tensor.length;
    described.sourceDevice = tensorpipe::Device("cpu", 0);
    described.targetDevice = tensor.targetDevice;
  }
  return descriptor;
}

void* PointerOf(const tensorpipe::Buffer& buffer) {
  return const_cast<tensorpipe::Buffer&>(buffer)
      .unwrap<tensorpipe::CpuBuffer>()
      .ptr;
}

void Carry(const tensorpipe::Message& from, const tensorpipe::Allocation& to) {
  ASSERT_EQ(from.payloads.size(), to.payloads.size());
  for (size_t i = 0; i < from.payloads.size(); ++i) {
    if (from.payloads[i].length == 0) continue;
    std::memcpy(to.payloads[i].data, from.payloads[i].data,
                from.payloads[i].length);
  }
  ASSERT_EQ(from.tensors.size(), to.tensors.size());
  for (size_t i = 0; i < from.tensors.size(); ++i) {
    if (from.tensors[i].length == 0) continue;
    std::memcpy(PointerOf(to.tensors[i].buffer),
                PointerOf(from.tensors[i].buffer), from.tensors[i].length);
  }
}

TensorMessage ReadWithLibtorch(const tensorpipe::Message& wire) {
  tensorpipe::Descriptor descriptor = DescriptorOf(wire);
  auto [allocation, buffers] = rpc::tensorpipeAllocate(descriptor, {});
  Carry(wire, allocation);
  auto read = rpc::tensorpipeDeserialize(descriptor, std::move(buffers));
  TensorMessage message;
  message.type = read->type();
  message.id = read->id();
  message.payload.assign(read->payload().begin(), read->payload().end());
  message.tensors = read->tensors();
  return message;
}

absl::StatusOr<TensorMessage> ReadWithOurs(const tensorpipe::Message& wire) {
  absl::StatusOr<TorchRpcRead> read = TorchRpcAllocate(DescriptorOf(wire));
  if (!read.ok()) return read.status();
  Carry(wire, read->allocation);
  return TorchRpcDeserialize(std::move(read->buffers));
}

// --- what is compared ---

struct Wire {
  std::vector<std::string> payloads, tensors;
  std::vector<std::string> targets;

  friend bool operator==(const Wire&, const Wire&) = default;
};

std::vector<std::string> TargetsOf(const tensorpipe::Message& message) {
  std::vector<std::string> targets;
  for (const auto& tensor : message.tensors) {
    targets.push_back(tensor.targetDevice->toString());
  }
  return targets;
}

Wire WireOf(const tensorpipe::Message& message) {
  Wire wire;
  for (const auto& payload : message.payloads) {
    wire.payloads.emplace_back(static_cast<const char*>(payload.data),
                               payload.length);
  }
  for (const auto& tensor : message.tensors) {
    wire.tensors.emplace_back();
    if (tensor.length == 0) continue;
    wire.tensors.back().assign(
        static_cast<const char*>(PointerOf(tensor.buffer)), tensor.length);
  }
  wire.targets = TargetsOf(message);
  return wire;
}

void ExpectSame(const TensorMessage& message, const TensorMessage& other) {
  EXPECT_EQ(message.type, other.type);
  EXPECT_EQ(message.id, other.id);
  EXPECT_EQ(message.payload, other.payload);
  ASSERT_EQ(message.tensors.size(), other.tensors.size());
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    EXPECT_EQ(Difference(message.tensors[i], other.tensors[i]), "")
        << "tensor " << i;
    EXPECT_EQ(message.tensors[i].device(), other.tensors[i].device());
  }
  EXPECT_EQ(Aliasing(message.tensors), Aliasing(other.tensors));
}

// The whole claim of parity for one list of tensors.
void ExpectParity(const Tensors& tensors) {
  SeedWrite seed = WriteWithLibtorch(tensors);
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours, WriteWithOurs(tensors));
  EXPECT_EQ(WireOf(seed.message), WireOf(ours.message));

  TensorMessage reference = ReadWithLibtorch(seed.message);
  EXPECT_EQ(reference.payload, UserPayload());
  ExpectSame(ReadWithLibtorch(ours.message), reference);
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage read, ReadWithOurs(seed.message));
  ExpectSame(read, reference);

  // And libtorch's reading is what was sent, but for the coalesced flag, which
  // its format does not have.
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].is_sparse()) {
      read.tensors[i]._coalesced_(tensors[i].is_coalesced());
    }
    EXPECT_EQ(Difference(tensors[i], read.tensors[i]), "") << "tensor " << i;
  }
}

// What libtorch's functions cannot write.
bool HasUnwritableLayout(const at::Tensor& tensor) {
  return tensor.layout() == c10::kSparseCsc ||
         tensor.layout() == c10::kSparseBsr ||
         tensor.layout() == c10::kSparseBsc;
}

at::Tensor Filled(at::Tensor tensor) {
  auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
  for (size_t i = 0; i < tensor.storage().nbytes(); ++i) bytes[i] = 31 * i + 7;
  return tensor;
}

// Whether libtorch's own functions carry these: they cannot read packed dtypes,
// nor write views that they would clone of dtypes that it cannot copy.
bool CrossesWithLibtorch(const Tensors& tensors) {
  try {
    ReadWithLibtorch(WriteWithLibtorch(tensors).message);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// --- parity ---

TEST(TorchRpcParityTest, EveryTensorOfTheMatrixCrossesBothWays) {
  int crossed = 0;
  std::vector<std::string> left_out;
  for (const MatrixCase& c : TensorMatrix()) {
    SCOPED_TRACE(c.name);
    if (HasUnwritableLayout(c.tensors[0])) {
      EXPECT_ANY_THROW(WriteWithLibtorch(c.tensors));
      EXPECT_THAT(WriteWithOurs(c.tensors),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("tensor 0 "), HasSubstr("layout"))));
    } else if (c.name == "alias/other dtype" ||  // see below
               !CrossesWithLibtorch(c.tensors)) {
      left_out.push_back(c.name);
    } else {
      ExpectParity(c.tensors);
      ++crossed;
    }
  }
  EXPECT_GT(crossed, 600);
  EXPECT_THAT(left_out,
              Each(AnyOf(StartsWith("quint"), EndsWith("sliced/5000 of 20000"),
                         "alias/other dtype")));
  EXPECT_EQ(left_out.size(), 2 + 14 + 1);
}

TEST(TorchRpcParityTest, EveryDtypeThatLibtorchHasCrossesBothWays) {
  for (int i = 0; i < static_cast<int>(c10::ScalarType::Undefined); ++i) {
    auto dtype = static_cast<c10::ScalarType>(i);
    if (c10::isQIntType(dtype)) continue;  // below
    SCOPED_TRACE(c10::toString(dtype));
    at::Tensor tensor = at::empty({3, 4}, dtype);
    if (dtype == at::kBool) {
      tensor.fill_(true);
    } else {
      Filled(tensor);
    }
    ExpectParity({tensor, tensor.t(), tensor.slice(1, 1, 3)});
  }
}

// Difference() knows no float zero points.
void ExpectSameQuantised(const Tensors& tensors, const Tensors& others) {
  ASSERT_EQ(tensors.size(), others.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(tensors[i].scalar_type(), others[i].scalar_type());
    EXPECT_EQ(tensors[i].qscheme(), others[i].qscheme());
    EXPECT_EQ(tensors[i].q_per_channel_axis(), others[i].q_per_channel_axis());
    EXPECT_TRUE(at::equal(tensors[i].dequantize(), others[i].dequantize()));
  }
}

TEST(TorchRpcParityTest, EveryQuantiserCrossesBothWays) {
  at::Tensor real = at::rand({4, 6});
  at::Tensor scales = at::rand({6}, at::kDouble) + 0.1;
  at::Tensor points = at::arange(6, at::kLong);
  for (auto dtype : {at::kQInt8, at::kQUInt8, at::kQInt32}) {
    SCOPED_TRACE(c10::toString(dtype));
    at::Tensor per_tensor = at::quantize_per_tensor(real, 0.1, 10, dtype);
    ExpectParity({per_tensor, per_tensor.slice(0, 1, 3), per_tensor.t()});
    ExpectParity({at::quantize_per_channel(real, scales, points, 1, dtype)});
  }
  at::Tensor float_params = at::quantize_per_channel(
      real, scales.to(at::kFloat), points.to(at::kFloat), 1, at::kQUInt8);
  ASSERT_EQ(float_params.qscheme(), c10::kPerChannelAffineFloatQParams);
  SeedWrite seed = WriteWithLibtorch({float_params});
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours, WriteWithOurs({float_params}));
  EXPECT_EQ(WireOf(seed.message), WireOf(ours.message));
  ExpectSameQuantised(ReadWithLibtorch(ours.message).tensors, {float_params});
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage read, ReadWithOurs(seed.message));
  ExpectSameQuantised(read.tensors, {float_params});
}

TEST(TorchRpcParityTest, AMixedMessageCrossesBothWays) {
  at::Tensor base = at::rand({8, 8});
  at::Tensor sparse = at::eye(5).to_sparse();
  at::Tensor channels =
      at::quantize_per_channel(at::rand({3, 2}), at::ones({2}, at::kDouble),
                               at::zeros({2}, at::kLong), 1, at::kQInt8);
  ExpectParity({});
  ExpectParity({base, sparse, base.t(), channels, base, at::scalar_tensor(3.5),
                at::empty({0, 7}), at::eye(4).to_sparse_csr(), sparse,
                base.select(1, 3), at::rand({2}, at::kComplexDouble).conj(),
                base.diagonal().expand({3, 8})});
}

TEST(TorchRpcParityTest, AMessageOfManyTensorsCrossesBothWays) {
  Tensors tensors;  // more memos than fit one byte
  for (int i = 0; i < 1000; ++i) tensors.push_back(at::full({i % 7}, i));
  tensors.push_back(tensors[999]);
  ExpectParity(tensors);
}

TEST(TorchRpcParityTest, AStorageIsClonedByTheSameRule) {
  at::Tensor floats = at::rand({4096});  // 16384 bytes
  at::Tensor small = at::rand({2047});   // 8188 bytes
  at::Tensor least = at::rand({2048});   // 8192 bytes
  for (const at::Tensor& tensor :
       {floats.slice(0, 0, 2048), floats.slice(0, 0, 2049),
        floats.slice(0, 100, 100), small.slice(0, 0, 1), least.slice(0, 0, 1),
        at::rand({128, 128}).slice(1, 0, 2).t(),
        at::rand({64, 64}).slice(0, 0, 5).requires_grad_(true)}) {
    ExpectParity({tensor});
    ExpectParity({tensor, tensor});
  }
  // A clone's storage is its own: the view that is not cloned stands alone.
  ExpectParity({floats, floats.slice(0, 0, 10), floats.slice(0, 0, 3000)});
}

TEST(TorchRpcParityTest, MemoryThatNobodyOwnsIsCopiedOnceAndOtherIsNot) {
  std::vector<float> floats(500, 1.5f);
  at::Tensor unowned = at::from_blob(floats.data(), {20, 25});
  bool deleted = false;
  at::Tensor owned = at::from_blob(
      floats.data(), {500}, [&](void*) { deleted = true; }, at::kFloat);
  ExpectParity({unowned, owned, unowned.t(), unowned.slice(0, 3, 4)});

  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs({unowned, owned, unowned.t()}));
  ASSERT_EQ(ours.message.tensors.size(), 2);
  EXPECT_NE(PointerOf(ours.message.tensors[0].buffer), floats.data());
  EXPECT_EQ(PointerOf(ours.message.tensors[1].buffer), floats.data());
  owned.reset();
  EXPECT_FALSE(deleted);
  { TorchRpcWriteBuffers dropped = std::move(ours.buffers); }
  EXPECT_TRUE(deleted);
}

TEST(TorchRpcParityTest, AViewOfBytesThatAreNoWholeElementsCrossesBothWays) {
  at::Tensor bytes = Filled(at::empty({10}, at::kByte));
  ExpectParity({bytes.slice(0, 0, 8).view(at::kFloat)});
}

TEST(TorchRpcParityTest, TargetsAreTheSameWhereEachTensorIsOneStorage) {
  Tensors tensors = {at::rand({3}), at::rand({4}), at::rand({0})};
  Devices targets = {kCuda1, kCpu, kCuda0};
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, targets));
  EXPECT_THAT(TargetsOf(ours.message),
              ElementsAre("cuda:1", "cpu:0", "cuda:0"));
  EXPECT_EQ(WireOf(WriteWithLibtorch(tensors, targets).message),
            WireOf(ours.message));
}

// --- where libtorch is wrong, and tensorferry is right ---

TEST(TorchRpcParityTest, LibtorchCannotReadItsOwnPackedTensorsAndOursCan) {
  for (auto dtype : {at::kQUInt4x2, at::kQUInt2x4}) {
    SCOPED_TRACE(c10::toString(dtype));
    at::Tensor packed = at::quantize_per_channel(
        at::rand({6, 8}), at::rand({6}) + 0.1, at::zeros({6}), 0, dtype);
    SeedWrite seed = WriteWithLibtorch({packed});
    EXPECT_ANY_THROW(ReadWithLibtorch(seed.message));
    FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours, WriteWithOurs({packed}));
    EXPECT_EQ(WireOf(seed.message), WireOf(ours.message));
    FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage read, ReadWithOurs(seed.message));
    ExpectSameQuantised(read.tensors, {packed});
  }
}

TEST(TorchRpcTargetsTest,
     LibtorchGivesASparseTensorsValuesTheNextTensorsTarget) {
  at::Tensor sparse = at::eye(3).to_sparse();  // two storages
  at::Tensor dense = at::rand({3});
  Tensors tensors = {sparse, dense, dense.slice(0, 1, 2)};
  Devices targets = {kCuda0, kCuda1, kCuda1};
  // Its list is one per tensor and it looks in it by storage; without the
  // third tensor it would even read beyond its end.
  EXPECT_THAT(TargetsOf(WriteWithLibtorch(tensors, targets).message),
              ElementsAre("cuda:0", "cuda:1", "cuda:1"));
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, targets));
  EXPECT_THAT(TargetsOf(ours.message),
              ElementsAre("cuda:0", "cuda:0", "cuda:1"));
}

TEST(TorchRpcTargetsTest, LibtorchGivesTheTensorAfterAnAliasTheAliasTarget) {
  at::Tensor a = at::rand({4, 4});
  at::Tensor b = at::rand({4});
  Tensors tensors = {a, a.t(), b};
  Devices targets = {kCuda0, kCuda0, kCuda1};
  EXPECT_THAT(TargetsOf(WriteWithLibtorch(tensors, targets).message),
              ElementsAre("cuda:0", "cuda:0"));
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, targets));
  EXPECT_THAT(TargetsOf(ours.message), ElementsAre("cuda:0", "cuda:1"));
}

TEST(TorchRpcTargetsTest, EveryStorageOfATensorGoesToItsTarget) {
  at::Tensor channels =
      at::quantize_per_channel(at::rand({3, 2}), at::ones({2}, at::kDouble),
                               at::zeros({2}, at::kLong), 1, at::kQInt8);
  FERRY_ASSERT_OK_AND_ASSIGN(
      TorchRpcWrite ours,
      WriteWithOurs({channels, at::eye(3).to_sparse_csr(), at::rand({2})},
                    {kCuda1, kCuda0, kCpu}));
  EXPECT_THAT(TargetsOf(ours.message),
              ElementsAre("cuda:1", "cuda:1", "cuda:1", "cuda:0", "cuda:0",
                          "cuda:0", "cpu:0"));
}

TEST(TorchRpcTargetsTest, LibtorchCallsEveryDeviceCuda) {
  Tensors tensors = {at::rand({3})};
  Devices targets = {c10::Device(c10::kXPU, 2)};
  EXPECT_THAT(TargetsOf(WriteWithLibtorch(tensors, targets).message),
              ElementsAre("cuda:2"));
  FERRY_ASSERT_OK_AND_ASSIGN(TorchRpcWrite ours,
                             WriteWithOurs(tensors, targets));
  EXPECT_THAT(TargetsOf(ours.message), ElementsAre("xpu:2"));
}

TEST(TorchRpcTargetsTest, OneStorageForTwoTargetsIsRefusedNamingBothTensors) {
  at::Tensor a = at::rand({4, 4});
  EXPECT_THAT(WriteWithOurs({at::rand({2}), a, a.t()}, {kCpu, kCpu, kCuda1}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tensors 1 and 2"), HasSubstr("cpu"),
                             HasSubstr("cuda:1"))));
  // What is cloned shares nothing.
  at::Tensor large = at::rand({4096});
  EXPECT_THAT(WriteWithOurs({large, large.slice(0, 0, 8)}, {kCpu, kCuda1}),
              IsOk());
}

TEST(TorchRpcDtypeTest, LibtorchGivesAnAliasTheFirstTensorsDtype) {
  at::Tensor ints = at::arange(4, at::kInt);
  Tensors tensors = {ints, ints.view(at::kFloat)};
  EXPECT_EQ(ReadWithLibtorch(WriteWithLibtorch(tensors).message)
                .tensors[1]
                .scalar_type(),
            at::kInt);
  EXPECT_THAT(WriteWithOurs(tensors),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tensors 0 and 1"), HasSubstr("Int"),
                             HasSubstr("Float"))));
}

}  // namespace
}  // namespace tensorferry
