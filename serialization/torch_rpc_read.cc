#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/device_id.h"
#include "base/status_macros.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_rpc.h"
#include "serialization/torch_rpc_pickle.h"
#include "serialization/torch_rpc_rebuild.h"
#include "serialization/torch_rpc_wire.h"
#include "serialization/torch_types.h"

namespace tensorferry {

struct TorchRpcReadBuffers::Contents {
  uint32_t type = 0;
  int64_t id = 0;
  std::string payload;
  std::string pickle;
  std::vector<ReceivedStorage> storages;
  Limits limits;
};

TorchRpcReadBuffers::TorchRpcReadBuffers(std::unique_ptr<Contents> contents)
    : contents_(std::move(contents)) {}
TorchRpcReadBuffers::TorchRpcReadBuffers(TorchRpcReadBuffers&&) noexcept =
    default;
TorchRpcReadBuffers& TorchRpcReadBuffers::operator=(
    TorchRpcReadBuffers&&) noexcept = default;
TorchRpcReadBuffers::~TorchRpcReadBuffers() = default;

namespace {

using Contents = TorchRpcReadBuffers::Contents;

// Storages that a tensor can consist of.
constexpr uint64_t kMostParts = 3;

absl::Status CheckPayloads(const tensorpipe::Descriptor& descriptor) {
  if (descriptor.payloads.size() != kPayloads) {
    return absl::InvalidArgumentError(
        absl::StrCat(descriptor.payloads.size(), " payloads, want 4"));
  }
  size_t type_length = descriptor.payloads[kType].length;
  if (type_length != sizeof(Contents::type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("payload 0 (type): ", type_length, " bytes, want 4"));
  }
  size_t id_length = descriptor.payloads[kId].length;
  if (id_length != sizeof(Contents::id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("payload 1 (id): ", id_length, " bytes, want 8"));
  }
  return absl::OkStatus();
}

absl::Status TooMuch(absl::string_view limit, uint64_t allowed,
                     absl::string_view what, uint64_t found) {
  return absl::ResourceExhaustedError(
      absl::StrCat(what, ": ", found, ", limit ", limit, " allows ", allowed));
}

// Stops at the length that passes the limit: no sum overflows.
absl::Status CheckLengths(const tensorpipe::Descriptor& descriptor,
                          const Limits& limits) {
  uint64_t left = limits.message_bytes;
  auto add = [&](absl::string_view what, size_t i, uint64_t length) {
    if (length > left) {
      return TooMuch("message_bytes", limits.message_bytes,
                     absl::StrCat("bytes with ", what, " ", i),
                     limits.message_bytes - left + length);
    }
    left -= length;
    return absl::OkStatus();
  };
  uint64_t pickle = descriptor.payloads[kPickle].length;
  if (pickle > limits.manifest_bytes) {
    return TooMuch("manifest_bytes", limits.manifest_bytes,
                   "bytes of the pickle of the tensors", pickle);
  }
  if (descriptor.tensors.size() > kMostParts * limits.tensors) {
    return TooMuch("tensors", limits.tensors, "storages of tensors",
                   descriptor.tensors.size());
  }
  for (size_t i = 0; i < descriptor.payloads.size(); ++i) {
    FERRY_RETURN_IF_ERROR(add("payload", i, descriptor.payloads[i].length));
  }
  for (size_t i = 0; i < descriptor.tensors.size(); ++i) {
    FERRY_RETURN_IF_ERROR(add("storage", i, descriptor.tensors[i].length));
  }
  return absl::OkStatus();
}

// A place to receive a storage into; without memory yet.
struct Place {
  uint64_t nbytes;
  c10::Stream stream;
  const DeviceConverter* converter;
};

absl::StatusOr<Place> FindPlace(const tensorpipe::Descriptor::Tensor& tensor,
                                const TorchRpcOptions& options) {
  if (!tensor.targetDevice.has_value()) {
    return absl::InvalidArgumentError("no target device");
  }
  DeviceId id{tensor.targetDevice->type, tensor.targetDevice->index};
  FERRY_RETURN_IF_ERROR(ValidateDeviceId(id));
  FERRY_ASSIGN_OR_RETURN(c10::Device device, TorchDeviceOf(id));
  FERRY_ASSIGN_OR_RETURN(
      const DeviceConverter* converter,
      ConverterRegistry::OrGlobal(options.converters).Find(device.type()));
  FERRY_ASSIGN_OR_RETURN(c10::Stream stream,
                         StreamForDevice(options.streams, device));
  return Place{tensor.length, stream, converter};
}

absl::StatusOr<std::vector<Place>> FindPlaces(
    const tensorpipe::Descriptor& descriptor, const TorchRpcOptions& options) {
  std::vector<Place> places;
  for (size_t i = 0; i < descriptor.tensors.size(); ++i) {
    absl::StatusOr<Place> place = FindPlace(descriptor.tensors[i], options);
    if (!place.ok()) {
      return absl::Status(
          place.status().code(),
          absl::StrCat("storage ", i, ": ", place.status().message()));
    }
    places.push_back(*place);
  }
  return places;
}

absl::StatusOr<tensorpipe::Allocation::Tensor> AllocateAt(const Place& place,
                                                          Contents* contents) {
  c10::Device device = place.stream.device();
  FERRY_ASSIGN_OR_RETURN(
      c10::DataPtr data,
      place.converter->AllocateToReceive(place.nbytes, device, place.stream,
                                         /*source=*/nullptr));
  tensorpipe::Allocation::Tensor tensor;
  tensor.buffer = place.converter->CarriedBuffer(
      static_cast<std::byte*>(data.get()), place.stream);
  contents->storages.push_back({std::move(data), place.nbytes, device});
  return tensor;
}

absl::StatusOr<TorchRpcRead> DoAllocate(
    const tensorpipe::Descriptor& descriptor, const Limits& limits,
    const TorchRpcOptions& options) {
  FERRY_RETURN_IF_ERROR(CheckPayloads(descriptor));
  FERRY_RETURN_IF_ERROR(CheckLengths(descriptor, limits));
  FERRY_ASSIGN_OR_RETURN(std::vector<Place> places,
                         FindPlaces(descriptor, options));
  auto contents = std::make_unique<Contents>();
  contents->limits = limits;
  contents->payload.resize(descriptor.payloads[kUser].length);
  contents->pickle.resize(descriptor.payloads[kPickle].length);
  tensorpipe::Allocation allocation;
  allocation.payloads.resize(kPayloads);
  allocation.payloads[kType].data = &contents->type;
  allocation.payloads[kId].data = &contents->id;
  allocation.payloads[kUser].data = contents->payload.data();
  allocation.payloads[kPickle].data = contents->pickle.data();
  for (const Place& place : places) {
    FERRY_ASSIGN_OR_RETURN(tensorpipe::Allocation::Tensor tensor,
                           AllocateAt(place, contents.get()));
    allocation.tensors.push_back(std::move(tensor));
  }
  return TorchRpcRead{std::move(allocation),
                      TorchRpcReadBuffers(std::move(contents))};
}

absl::StatusOr<TensorMessage> DoDeserialize(Contents contents) {
  FERRY_ASSIGN_OR_RETURN(PickledTensors pickled,
                         ReadPickledTensors(contents.pickle, contents.limits));
  TensorMessage message;
  FERRY_ASSIGN_OR_RETURN(message.tensors,
                         RebuildTensors(pickled, std::move(contents.storages)));
  message.type = contents.type;
  message.id = contents.id;
  message.payload = std::move(contents.payload);
  return message;
}

}  // namespace

absl::StatusOr<TorchRpcRead> TorchRpcAllocate(
    const tensorpipe::Descriptor& descriptor, const Limits& limits,
    const TorchRpcOptions& options) {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument,
      [] { return "memory for a message in libtorch's RPC format"; },
      [&] { return DoAllocate(descriptor, limits, options); });
}

absl::StatusOr<TensorMessage> TorchRpcDeserialize(TorchRpcReadBuffers buffers) {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument,
      [] { return "reading libtorch's RPC format"; },
      [&] { return DoDeserialize(std::move(*buffers.contents_)); });
}

}  // namespace tensorferry
