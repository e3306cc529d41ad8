// What a caller or a peer can get wrong. That the bytes are libtorch's own is
// proved in torch_rpc_parity_test.cc.

#include "serialization/torch_rpc.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/common/cpu_buffer.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

// Host memory under the name of another device.
class FakeConverter : public DeviceConverter {
 public:
  explicit FakeConverter(c10::DeviceType type) : type_(type) {}

  absl::StatusOr<SendBuffer> PrepareToSend(const c10::Storage&, ByteRange,
                                           c10::Stream) const override {
    return absl::UnimplementedError("never sends");
  }
  absl::StatusOr<c10::DataPtr> AllocateToReceive(uint64_t nbytes,
                                                 c10::Device device,
                                                 c10::Stream,
                                                 BufferSource*) const override {
    ++allocations;
    void* data = nbytes > 0 ? std::malloc(nbytes) : nullptr;
    return c10::DataPtr(data, data, &std::free, device);
  }
  tensorpipe::Buffer CarriedBuffer(std::byte* data,
                                   c10::Stream) const override {
    tensorpipe::CpuBuffer buffer;
    buffer.ptr = data;
    return buffer;
  }
  std::vector<DeviceInfo> Devices() const override { return {}; }

  mutable int allocations = 0;

 private:
  c10::DeviceType type_;
};

// --- a message as bytes that a test can damage ---

struct Bytes {
  std::string type = std::string(4, '\0'), id = std::string(8, '\0'), user,
              pickle;
  std::vector<std::string> storages;
};

TensorMessage MessageOf(std::vector<at::Tensor> tensors) {
  TensorMessage message;
  message.tensors = std::move(tensors);
  return message;
}

Bytes Written(std::vector<at::Tensor> tensors) {
  absl::StatusOr<TorchRpcWrite> write =
      TorchRpcSerialize(MessageOf(std::move(tensors)), {});
  EXPECT_THAT(write, IsOk());
  Bytes bytes;
  const auto& pickle = write->message.payloads[3];
  bytes.pickle.assign(static_cast<const char*>(pickle.data), pickle.length);
  for (auto& tensor : write->message.tensors) {
    bytes.storages.emplace_back(
        static_cast<const char*>(
            tensor.buffer.unwrap<tensorpipe::CpuBuffer>().ptr),
        tensor.length);
  }
  return bytes;
}

tensorpipe::Descriptor DescriptorOf(const Bytes& bytes) {
  tensorpipe::Descriptor descriptor;
  for (const std::string* payload :
       {&bytes.type, &bytes.id, &bytes.user, &bytes.pickle}) {
    descriptor.payloads.emplace_back().length = payload->size();
  }
  for (const std::string& storage : bytes.storages) {
    auto& tensor = descriptor.tensors.emplace_back();
    tensor.length = storage.size();
    tensor.targetDevice = tensorpipe::Device("cpu", 0);
  }
  return descriptor;
}

absl::StatusOr<TensorMessage> Read(const Bytes& bytes,
                                   const Limits& limits = {}) {
  absl::StatusOr<TorchRpcRead> read =
      TorchRpcAllocate(DescriptorOf(bytes), limits);
  if (!read.ok()) return read.status();
  auto put = [](void* to, const std::string& from) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  };
  put(read->allocation.payloads[0].data, bytes.type);
  put(read->allocation.payloads[1].data, bytes.id);
  put(read->allocation.payloads[2].data, bytes.user);
  put(read->allocation.payloads[3].data, bytes.pickle);
  for (size_t i = 0; i < bytes.storages.size(); ++i) {
    put(read->allocation.tensors[i].buffer.unwrap<tensorpipe::CpuBuffer>().ptr,
        bytes.storages[i]);
  }
  return TorchRpcDeserialize(std::move(read->buffers));
}

// Whether all elements of the tensor, and of what it consists of, lie within
// their storages.
bool IsWithinStorage(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kSparse) {
    return IsWithinStorage(tensor._indices()) &&
           IsWithinStorage(tensor._values());
  }
  if (tensor.layout() == c10::kSparseCsr) {
    return IsWithinStorage(tensor.crow_indices()) &&
           IsWithinStorage(tensor.col_indices()) &&
           IsWithinStorage(tensor.values());
  }
  if (tensor.is_quantized() && tensor.qscheme() != c10::kPerTensorAffine &&
      !(IsWithinStorage(tensor.q_per_channel_scales()) &&
        IsWithinStorage(tensor.q_per_channel_zero_points()))) {
    return false;
  }
  if (tensor.numel() == 0) return true;
  __int128 last = tensor.storage_offset();
  if (last < 0) return false;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.stride(d) < 0) return false;
    last += static_cast<__int128>(tensor.size(d) - 1) * tensor.stride(d);
  }
  return (last + 1) * tensor.element_size() <= tensor.storage().nbytes();
}

at::Tensor Channels() {
  return at::quantize_per_channel(at::rand({3, 2}), at::ones({2}, at::kDouble),
                                  at::zeros({2}, at::kLong), 1, at::kQInt8);
}

// --- Serialize ---

void ExpectRefused(std::vector<at::Tensor> tensors, const char* why) {
  EXPECT_THAT(
      TorchRpcSerialize(MessageOf(std::move(tensors)), {}),
      StatusIs(kInvalid, AllOf(HasSubstr("tensor 1 "), HasSubstr(why))));
}

TEST(TorchRpcSerializeTest, RefusesATensorThatTheFormatCannotCarry) {
  at::Tensor good = at::rand({2});
  ExpectRefused({good, at::Tensor()}, "undefined");
  ExpectRefused({good, at::empty({2}, at::TensorOptions(at::kMeta))}, "meta");
  ExpectRefused({good, at::eye(4).to_sparse_csc()}, "sparse layout");
  ExpectRefused({good, at::eye(4).to_sparse_bsr({2, 2})}, "sparse layout");
  ExpectRefused({good, at::_efficientzerotensor({2}, at::kFloat)},
                "no storage");
  at::Tensor resized = at::rand({20000}).slice(0, 0, 100);
  resized.storage().unsafeGetStorageImpl()->set_nbytes(0);
  ExpectRefused({good, resized}, "storage of 0 bytes");
}

TEST(TorchRpcSerializeTest, RefusesNamesBecauseTheFormatHasNone) {
  TensorMessage message = MessageOf({at::rand({2})});
  message.names = {"weight"};
  EXPECT_THAT(TorchRpcSerialize(message, {}),
              StatusIs(kInvalid, HasSubstr("names")));
}

TEST(TorchRpcSerializeTest, WantsATargetForEachTensorOrNone) {
  c10::Device cpu(c10::kCPU);
  EXPECT_THAT(TorchRpcSerialize(MessageOf({at::rand({2})}), {cpu, cpu}),
              StatusIs(kInvalid, HasSubstr("2 target devices for 1 tensors")));
}

TEST(TorchRpcSerializeTest, SaysWhichDeviceHasNoConverter) {
  ConverterRegistry empty;
  TorchRpcOptions options;
  options.converters = &empty;
  EXPECT_THAT(
      TorchRpcSerialize(MessageOf({at::rand({2})}), {}, options),
      StatusIs(kInvalid, AllOf(HasSubstr("tensor 0 "), HasSubstr("cpu"))));
}

TEST(TorchRpcSerializeTest, BytesStayInPlaceWhenTheirOwnersMoveOrGo) {
  TensorMessage message = MessageOf({at::full({3}, 7.0f)});
  message.payload = "short";  // short enough to lie inside a string object
  absl::StatusOr<TorchRpcWrite> write =
      TorchRpcSerialize(std::move(message), {});
  ASSERT_THAT(write, IsOk());
  tensorpipe::Message wire = write->message;
  auto kept = std::make_unique<TorchRpcWriteBuffers>(std::move(write->buffers));
  write = absl::CancelledError();
  EXPECT_EQ(std::memcmp(wire.payloads[2].data, "short", 5), 0);
  EXPECT_EQ(static_cast<float*>(
                wire.tensors[0].buffer.unwrap<tensorpipe::CpuBuffer>().ptr)[2],
            7.0f);
}

// --- Allocate ---

TEST(TorchRpcAllocateTest, RefusesPayloadsOfAnotherFormat) {
  tensorpipe::Descriptor good = DescriptorOf(Written({at::rand({2})}));
  EXPECT_THAT(TorchRpcAllocate(good), IsOk());
  tensorpipe::Descriptor descriptor = good;
  descriptor.payloads.pop_back();
  EXPECT_THAT(TorchRpcAllocate(descriptor),
              StatusIs(kInvalid, HasSubstr("3 payloads")));
  EXPECT_THAT(TorchRpcAllocate(tensorpipe::Descriptor()),
              StatusIs(kInvalid, HasSubstr("0 payloads")));
  descriptor = good;
  descriptor.payloads[0].length = 8;
  EXPECT_THAT(TorchRpcAllocate(descriptor),
              StatusIs(kInvalid, HasSubstr("payload 0 (type): 8 bytes")));
  descriptor = good;
  descriptor.payloads[1].length = 0;
  EXPECT_THAT(TorchRpcAllocate(descriptor),
              StatusIs(kInvalid, HasSubstr("payload 1 (id): 0 bytes")));
}

TEST(TorchRpcAllocateTest, RefusesImpossibleTargetDevices) {
  tensorpipe::Descriptor descriptor =
      DescriptorOf(Written({at::rand({2}), at::rand({3})}));
  auto& target = descriptor.tensors[1].targetDevice;
  target = {};
  EXPECT_THAT(TorchRpcAllocate(descriptor),
              StatusIs(kInvalid, AllOf(HasSubstr("storage 1"),
                                       HasSubstr("no target device"))));
  for (const auto& [type, index] : std::vector<std::pair<std::string, int>>{
           {"cuda", 0},  // no converter is linked
           {"cuda", 300},
           {"cuda", -57},
           {"cpu", -5},
           {"cpu", 1},
           {"tpu", 0},
           {"", 0},
           {std::string(1000, 'x'), 0},
           {"cu\ndA", 0}}) {
    target = tensorpipe::Device(type, index);
    EXPECT_THAT(TorchRpcAllocate(descriptor),
                StatusIs(kInvalid, HasSubstr("storage 1")))
        << type << ":" << index;
  }
}

TEST(TorchRpcAllocateTest, ChecksAllLengthsBeforeItAllocates) {
  auto owned = std::make_unique<FakeConverter>(c10::kCPU);
  FakeConverter* converter = owned.get();
  ConverterRegistry registry;
  ASSERT_THAT(registry.Register(c10::kCPU, std::move(owned)), IsOk());
  TorchRpcOptions options;
  options.converters = &registry;
  Limits limits;
  limits.message_bytes = 1000;
  limits.manifest_bytes = 500;
  limits.tensors = 2;

  Bytes bytes = Written({at::rand({2}), at::rand({3})});
  tensorpipe::Descriptor descriptor = DescriptorOf(bytes);
  EXPECT_THAT(TorchRpcAllocate(descriptor, limits, options), IsOk());
  EXPECT_EQ(converter->allocations, 2);

  const size_t huge = std::numeric_limits<size_t>::max();
  for (size_t length : {size_t{1000}, huge, huge - 500}) {
    descriptor.tensors[1].length = length;
    EXPECT_THAT(TorchRpcAllocate(descriptor, limits, options),
                StatusIs(kExhausted, AllOf(HasSubstr("message_bytes"),
                                           HasSubstr("storage 1"))));
  }
  descriptor = DescriptorOf(bytes);
  descriptor.payloads[2].length = 900;
  EXPECT_THAT(TorchRpcAllocate(descriptor, limits, options),
              StatusIs(kExhausted, HasSubstr("message_bytes")));
  descriptor = DescriptorOf(bytes);
  descriptor.payloads[3].length = 501;
  EXPECT_THAT(TorchRpcAllocate(descriptor, limits, options),
              StatusIs(kExhausted, HasSubstr("manifest_bytes")));
  descriptor = DescriptorOf(bytes);
  descriptor.tensors.resize(7, descriptor.tensors[0]);
  EXPECT_THAT(TorchRpcAllocate(descriptor, limits, options),
              StatusIs(kExhausted, HasSubstr("tensors")));
  EXPECT_EQ(converter->allocations, 2);
}

TEST(TorchRpcAllocateTest, WantsAStreamForEachDevice) {
  ConverterRegistry registry;
  ASSERT_THAT(registry.Register(c10::kMeta,
                                std::make_unique<FakeConverter>(c10::kMeta)),
              IsOk());
  TorchRpcOptions options;
  options.converters = &registry;
  tensorpipe::Descriptor descriptor = DescriptorOf(Written({at::rand({2})}));
  descriptor.tensors[0].targetDevice = tensorpipe::Device("meta", 0);
  EXPECT_THAT(TorchRpcAllocate(descriptor, {}, options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("storage 0"), HasSubstr("meta"))));
}

// libtorch puts an empty tensor on the CPU, wherever it was sent.
TEST(TorchRpcDeserializeTest, TensorsArriveOnTheirTargetEmptyOnesToo) {
  ConverterRegistry registry;
  ASSERT_THAT(registry.Register(c10::kMeta,
                                std::make_unique<FakeConverter>(c10::kMeta)),
              IsOk());
  c10::Device device(c10::kMeta, 0);
  TorchRpcOptions options;
  options.converters = &registry;
  options.streams = {c10::Stream(c10::Stream::DEFAULT, device)};
  Bytes bytes = Written({at::rand({2}), at::rand({0, 3})});
  tensorpipe::Descriptor descriptor = DescriptorOf(bytes);
  for (auto& tensor : descriptor.tensors) {
    tensor.targetDevice = tensorpipe::Device("meta", 0);
  }
  absl::StatusOr<TorchRpcRead> read = TorchRpcAllocate(descriptor, {}, options);
  ASSERT_THAT(read, IsOk());
  std::memcpy(read->allocation.payloads[3].data, bytes.pickle.data(),
              bytes.pickle.size());
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage message,
                             TorchRpcDeserialize(std::move(read->buffers)));
  ASSERT_EQ(message.tensors.size(), 2);
  EXPECT_EQ(message.tensors[0].device(), device);
  EXPECT_EQ(message.tensors[1].device(), device);
  EXPECT_EQ(message.tensors[1].sizes(), at::IntArrayRef({0, 3}));
}

// --- Deserialize ---

TEST(TorchRpcDeserializeTest, RefusesAStorageThatClaimsMoreThanArrived) {
  Bytes bytes = Written({at::rand({2}), at::rand({100})});
  bytes.storages[1].resize(396);
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid, AllOf(HasSubstr("storage 1"),
                                                    HasSubstr("100 elements"),
                                                    HasSubstr("396 bytes"))));
  bytes.storages.pop_back();
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr("2 storages, but 1")));
  bytes = Written({at::rand({2})});
  bytes.storages.push_back("more");
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr("1 storages, but 2")));
}

TEST(TorchRpcDeserializeTest, RefusesATensorThatReachesBeyondItsStorage) {
  // K is an integer of one byte; sizes 7, 5 become 8, 5; then strides; offset.
  Bytes good = Written({at::rand({7, 5})});
  for (auto [from, to] :
       {std::pair("(K\7K\5t", "(K\10K\5t"), std::pair("(K\5K\1t", "(K\6K\1t"),
        std::pair("K\1t\x89", "K\2t\x89")}) {
    Bytes bytes = good;
    bytes.pickle = absl::StrReplaceAll(good.pickle, {{from, to}});
    ASSERT_NE(bytes.pickle, good.pickle);
    EXPECT_THAT(Read(bytes),
                StatusIs(kInvalid, AllOf(HasSubstr("tensor 0"),
                                         HasSubstr("140 bytes of storage 0"))));
  }
}

// Replaces an integer of one byte by one of eight.
Bytes WithInt(const Bytes& bytes, const std::string& around_before,
              int64_t value, const std::string& around_after, char was) {
  std::string wide("\x8a\x08", 2);
  wide.append(reinterpret_cast<const char*>(&value), sizeof(value));
  Bytes changed = bytes;
  changed.pickle = absl::StrReplaceAll(
      bytes.pickle,
      {{absl::StrCat(around_before, std::string("K") + was, around_after),
        absl::StrCat(around_before, wide, around_after)}});
  EXPECT_NE(changed.pickle, bytes.pickle);
  return changed;
}

TEST(TorchRpcDeserializeTest, RefusesNumbersThatOverflow) {
  Bytes good = Written({at::rand({7, 5})});
  const int64_t most = std::numeric_limits<int64_t>::max();
  const int64_t least = std::numeric_limits<int64_t>::min();
  for (int64_t value : {most, most / 2, most / 4 + 1, least, int64_t{-1}}) {
    SCOPED_TRACE(value);
    // sizes[0], strides[0], the offset, the storage's number of elements.
    EXPECT_THAT(Read(WithInt(good, "(", value, "K\5t", 7)), StatusIs(kInvalid));
    EXPECT_THAT(Read(WithInt(good, "(", value, "K\1t", 5)), StatusIs(kInvalid));
    EXPECT_THAT(Read(WithInt(good, "", value, "(K\7", 0)), StatusIs(kInvalid));
    EXPECT_THAT(Read(WithInt(good, "", value, "tQ", 35)), StatusIs(kInvalid));
  }
}

TEST(TorchRpcDeserializeTest, RefusesSparseIndicesOutOfRange) {
  Bytes bytes = Written({at::eye(3).to_sparse()});
  EXPECT_THAT(Read(bytes), IsOk());
  bytes.storages[0][0] = 3;
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr("tensor 0")));

  bytes = Written({at::eye(3).to_sparse_csr()});
  EXPECT_THAT(Read(bytes), IsOk());
  bytes.storages[1][bytes.storages[1].size() - 8] = 100;
  EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr("tensor 0")));
}

TEST(TorchRpcDeserializeTest, RefusesAQuantiserThatDoesNotFitItsTensor) {
  Bytes good = Written({Channels()});
  EXPECT_THAT(Read(good), IsOk());
  for (auto [axis, why] : {std::pair('\0', "3 channels, but 2 scales"),
                           std::pair('\2', "axis 2 of 2")}) {
    Bytes bytes = good;
    size_t at = bytes.pickle.rfind("K\1t\x89");
    ASSERT_NE(at, std::string::npos);
    bytes.pickle[at + 1] = axis;
    EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr(why)));
  }
}

TEST(TorchRpcDeserializeTest, RefusesEveryPickleThatEndsTooEarlyOrTooLate) {
  Bytes good = Written({at::rand({2}), at::eye(3).to_sparse(), Channels()});
  for (size_t length = 0; length < good.pickle.size(); ++length) {
    Bytes bytes = good;
    bytes.pickle.resize(length);
    ASSERT_THAT(Read(bytes), StatusIs(kInvalid)) << length;
  }
  good.pickle.push_back('.');
  EXPECT_THAT(Read(good), StatusIs(kInvalid, HasSubstr("after its end")));
}

TEST(TorchRpcDeserializeTest, NoChangedByteOfAPickleLeadsBeyondWhatArrived) {
  // libtorch's threads spin while they wait for each other: slow on a machine
  // that is busy with other tests.
  at::set_num_threads(1);
  at::Tensor base = at::rand({4, 3}, at::kComplexFloat);
  Bytes good =
      Written({base.conj(), base.t(), at::eye(3).to_sparse(),
               at::eye(3).to_sparse_csr(), Channels(),
               at::quantize_per_tensor(at::rand({5}), 0.1, 1, at::kQUInt8)});
  ASSERT_THAT(Read(good), IsOk());
  int accepted = 0;
  Bytes bytes = good;
  for (size_t i = 0; i < good.pickle.size(); ++i) {
    const char was = good.pickle[i];
    for (int value : {0, 1, 2, 0x7f, 0x80, 0xff, was ^ 1, was + 1, was - 1}) {
      bytes.pickle[i] = static_cast<char>(value);
      absl::StatusOr<TensorMessage> message = Read(bytes);
      if (!message.ok()) {
        ASSERT_EQ(message.status().code(), kInvalid) << message.status();
        continue;
      }
      ++accepted;
      for (const at::Tensor& tensor : message->tensors) {
        ASSERT_TRUE(IsWithinStorage(tensor)) << "byte " << i << ": " << value;
      }
    }
    bytes.pickle[i] = was;
  }
  EXPECT_GT(accepted, 100);  // the device's name, say, may be anything
}

TEST(TorchRpcDeserializeTest, UnderstandsNoOtherPickle) {
  Bytes bytes;
  const std::string proto("\x80\x02", 2);
  for (const std::string& pickle :
       {std::string(), std::string(100, '\0'), proto + ".",
        proto + "cos\nsystem\nq\0X\4\0\0\0trueR.",
        // Would build a type out of the peer's text.
        proto + "ctorch.jit._pickle\nrestore_type_tag\n",
        proto + "ctorch.distributed.rpc\nrref\n",
        // Would fill a table of 64 GiB.
        proto + ")r\xff\xff\xff\xff.",
        // Nested lists, a million deep.
        proto + std::string(1'000'000, '('),
        proto + std::string(1'000'000, ']') + std::string(1'000'000, '\x85') +
            ".",
        // A text longer than the pickle.
        std::string("\x80\x02X\xff\xff\xff\xff", 7)}) {
    bytes.pickle = pickle;
    EXPECT_THAT(Read(bytes), StatusIs(kInvalid, HasSubstr("pickle")));
  }
}

TEST(TorchRpcDeserializeTest, KeepsTheLimitsThatOnlyThePickleTells) {
  at::Tensor tensor = at::rand({1, 1, 1, 2});
  Bytes bytes = Written({tensor, tensor, tensor});
  Limits limits;
  limits.tensors = 3;
  limits.rank = 4;
  EXPECT_THAT(Read(bytes, limits), IsOk());
  limits.tensors = 2;
  EXPECT_THAT(Read(bytes, limits),
              StatusIs(kExhausted, HasSubstr("2 tensors")));
  limits.tensors = 3;
  limits.rank = 3;
  EXPECT_THAT(Read(bytes, limits), StatusIs(kExhausted, HasSubstr("rank")));
}

}  // namespace
}  // namespace tensorferry
