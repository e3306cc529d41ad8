#include <ATen/core/ivalue.h>
#include <c10/core/StreamGuard.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/components.h"
#include "serialization/tensor_on_storage.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_rpc.h"
#include "serialization/torch_rpc_wire.h"
#include "serialization/torch_types.h"

namespace tensorferry {

struct TorchRpcWriteBuffers::Contents {
  uint32_t type;
  int64_t id;
  std::string payload;
  std::string pickle;
  std::vector<at::Tensor> tensors;  // the caller's, or clones
  std::vector<SendBuffer> prepared;
};

TorchRpcWriteBuffers::TorchRpcWriteBuffers(std::unique_ptr<Contents> contents)
    : contents_(std::move(contents)) {}
TorchRpcWriteBuffers::TorchRpcWriteBuffers(TorchRpcWriteBuffers&&) noexcept =
    default;
TorchRpcWriteBuffers& TorchRpcWriteBuffers::operator=(
    TorchRpcWriteBuffers&&) noexcept = default;
TorchRpcWriteBuffers::~TorchRpcWriteBuffers() = default;

namespace {

using Contents = TorchRpcWriteBuffers::Contents;

absl::Status InTensor(size_t tensor, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("tensor ", tensor, " ", status.message()));
}

absl::Status CheckTensor(const at::Tensor& tensor) {
  FERRY_ASSIGN_OR_RETURN(TensorKind kind, KindOf(tensor));
  if (kind == TensorKind::kCsc || kind == TensorKind::kBsr ||
      kind == TensorKind::kBsc) {
    return absl::InvalidArgumentError(
        "has a sparse layout that libtorch's format cannot carry; send its "
        "to_sparse_csr()");
  }
  if (IsSparse(kind)) return absl::OkStatus();
  return CheckMemory(*tensor.unsafeGetTensorImpl());
}

absl::Status CheckMessage(const TensorMessage& message,
                          const std::vector<c10::Device>& targets) {
  if (!message.names.empty()) {
    return absl::InvalidArgumentError(
        "libtorch's format cannot carry the names of tensors");
  }
  if (!targets.empty() && targets.size() != message.tensors.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(targets.size(), " target devices for ",
                     message.tensors.size(), " tensors"));
  }
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    absl::Status status = CheckTensor(message.tensors[i]);
    if (!status.ok()) return InTensor(i, status);
  }
  return absl::OkStatus();
}

// The rule that the header describes.
bool IsWorthCloning(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return false;
  size_t whole = tensor.storage().nbytes();
  size_t needed = tensor.element_size() * tensor.numel();
  return whole >= 8192 && whole >= 2 * needed;
}

// The strided tensors that `tensor` consists of.
std::vector<at::Tensor> PartsOf(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kSparse) {
    return {tensor._indices(), tensor._values()};
  }
  if (tensor.layout() == c10::kSparseCsr) {
    return {tensor.crow_indices(), tensor.col_indices(), tensor.values()};
  }
  if (tensor.is_quantized() && tensor.qscheme() != c10::kPerTensorAffine) {
    return {tensor, tensor.q_per_channel_scales(),
            tensor.q_per_channel_zero_points()};
  }
  return {tensor};
}

// What the first tensor on a storage decides for it.
struct Claim {
  size_t tensor;
  c10::Device target;
  c10::ScalarType dtype;
};
using Claims = absl::flat_hash_map<const c10::StorageImpl*, Claim>;

absl::Status AddClaim(const at::Tensor& part, Claim claim, Claims* claims) {
  const Claim& first =
      claims->emplace(part.storage().unsafeGetStorageImpl(), claim)
          .first->second;
  if (first.target == claim.target && first.dtype == claim.dtype) {
    return absl::OkStatus();
  }
  std::string both = absl::StrCat("tensors ", first.tensor, " and ",
                                  claim.tensor, " share a storage");
  if (first.target != claim.target) {
    return absl::InvalidArgumentError(
        absl::StrCat(both, ", but one is for ", first.target.str(),
                     " and the other for ", claim.target.str()));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      both, " as ", c10::toString(first.dtype), " and as ",
      c10::toString(claim.dtype),
      ", which libtorch's format cannot carry; clone one of them"));
}

absl::StatusOr<Claims> ClaimStorages(const std::vector<at::Tensor>& tensors,
                                     const std::vector<c10::Device>& targets) {
  Claims claims;
  for (size_t i = 0; i < tensors.size(); ++i) {
    c10::Device target = targets.empty() ? c10::kCPU : targets[i];
    for (const at::Tensor& part : PartsOf(tensors[i])) {
      FERRY_RETURN_IF_ERROR(
          AddClaim(part, {i, target, part.scalar_type()}, &claims));
    }
  }
  return claims;
}

// Returns a tensor on each storage, in the order of the wire. The pickle's
// bytes depend on how often a tensor is referred to: more than once, as the
// elements of `tensors` are here and in libtorch's own function.
std::vector<at::Tensor> Pickle(const std::vector<at::Tensor>& tensors,
                               std::string* bytes) {
  torch::jit::Pickler pickler(
      [bytes](const char* data, size_t size) { bytes->append(data, size); });
  pickler.protocol();
  pickler.pushIValue(tensors);
  pickler.stop();
  return pickler.tensorData();
}

absl::StatusOr<tensorpipe::Message::Tensor> Prepare(
    const c10::Storage& storage, c10::Device target,
    const TorchRpcOptions& options, Contents* contents) {
  FERRY_ASSIGN_OR_RETURN(const DeviceConverter* converter,
                         ConverterRegistry::OrGlobal(options.converters)
                             .Find(storage.device().type()));
  FERRY_ASSIGN_OR_RETURN(c10::Stream stream,
                         StreamForDevice(options.streams, storage.device()));
  FERRY_ASSIGN_OR_RETURN(
      SendBuffer prepared,
      converter->PrepareToSend(storage, {0, storage.nbytes()}, stream));
  DeviceId device = DeviceIdOf(target);
  tensorpipe::Message::Tensor tensor;
  tensor.buffer = converter->CarriedBuffer(prepared.data, stream);
  tensor.length = prepared.nbytes;
  tensor.targetDevice = tensorpipe::Device(device.type, device.index);
  contents->prepared.push_back(std::move(prepared));
  return tensor;
}

absl::Status AddTensors(const std::vector<c10::Device>& targets,
                        const TorchRpcOptions& options, Contents* contents,
                        tensorpipe::Message* message) {
  FERRY_ASSIGN_OR_RETURN(Claims claims,
                         ClaimStorages(contents->tensors, targets));
  for (const at::Tensor& part : Pickle(contents->tensors, &contents->pickle)) {
    const c10::Storage& storage = part.storage();
    auto claim = claims.find(storage.unsafeGetStorageImpl());
    if (claim == claims.end()) {
      return absl::InternalError("libtorch sends a storage of no tensor");
    }
    absl::StatusOr<tensorpipe::Message::Tensor> tensor =
        Prepare(storage, claim->second.target, options, contents);
    if (!tensor.ok()) {
      return InTensor(claim->second.tensor,
                      absl::Status(tensor.status().code(),
                                   absl::StrCat("cannot be sent: ",
                                                tensor.status().message())));
    }
    message->tensors.push_back(*std::move(tensor));
  }
  return absl::OkStatus();
}

absl::StatusOr<TorchRpcWrite> DoSerialize(
    TensorMessage message, const std::vector<c10::Device>& targets,
    const TorchRpcOptions& options) {
  FERRY_RETURN_IF_ERROR(CheckMessage(message, targets));
  auto contents = std::make_unique<Contents>();
  contents->type = message.type;
  contents->id = message.id;
  contents->payload = std::move(message.payload);
  FERRY_RETURN_IF_ERROR(CatchTorchErrors(
      absl::StatusCode::kResourceExhausted, [] { return "cloning tensors"; },
      [&] {
        c10::MultiStreamGuard guard(options.streams);
        for (at::Tensor& tensor : message.tensors) {
          contents->tensors.push_back(
              IsWorthCloning(tensor) ? tensor.clone() : std::move(tensor));
        }
        return absl::OkStatus();
      }));
  tensorpipe::Message wire;
  FERRY_RETURN_IF_ERROR(AddTensors(targets, options, contents.get(), &wire));
  wire.payloads.resize(kPayloads);
  wire.payloads[kType] = {&contents->type, sizeof(contents->type), ""};
  wire.payloads[kId] = {&contents->id, sizeof(contents->id), ""};
  wire.payloads[kUser] = {contents->payload.data(), contents->payload.size(),
                          ""};
  wire.payloads[kPickle] = {contents->pickle.data(), contents->pickle.size(),
                            ""};
  return TorchRpcWrite{std::move(wire),
                       TorchRpcWriteBuffers(std::move(contents))};
}

}  // namespace

absl::StatusOr<TorchRpcWrite> TorchRpcSerialize(
    TensorMessage message, const std::vector<c10::Device>& targets,
    const TorchRpcOptions& options) {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument,
      [] { return "writing libtorch's RPC format"; },
      [&] { return DoSerialize(std::move(message), targets, options); });
}

}  // namespace tensorferry
