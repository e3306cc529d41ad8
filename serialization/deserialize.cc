#include "serialization/deserialize.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "serialization/components.h"
#include "serialization/tensor_on_storage.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_types.h"

namespace tensorferry {

class Deserializer {
 public:
  explicit Deserializer(ReadBuffers buffers) : buffers_(std::move(buffers)) {}

  absl::StatusOr<TensorMessage> Run() {
    FERRY_RETURN_IF_ERROR(CatchTorchErrors(
        absl::StatusCode::kInvalidArgument,
        [this] { return manifest().Describe(current_); },
        [this] { return MakeTensors(); }));
    message_.type = manifest().type();
    message_.id = manifest().id();
    if (buffers_.payload_ != nullptr) {
      message_.payload = std::move(*buffers_.payload_);
    }
    return std::move(message_);
  }

 private:
  const Manifest& manifest() const { return buffers_.manifest_; }

  absl::Status MakeTensors();
  at::Tensor Make(int tensor) const;
  at::Tensor MakeView(int view) const;
  at::Tensor FillDestination(int tensor) const;
  std::vector<c10::Stream> DeviceStreams() const;

  ReadBuffers buffers_;
  TensorMessage message_;
  int current_ = 0;
};

absl::Status Deserializer::MakeTensors() {
  at::NoGradGuard no_grad;
  c10::MultiStreamGuard guard(DeviceStreams());
  int tensors = manifest().tensor_count();
  message_.tensors.reserve(tensors);
  if (manifest().named()) message_.names.reserve(tensors);
  for (current_ = 0; current_ < tensors; ++current_) {
    if (manifest().named()) {
      message_.names.emplace_back(manifest().tensor_name(current_));
    }
    bool ours = buffers_.destinations_.empty() ||
                !buffers_.destinations_[current_].defined();
    message_.tensors.push_back(ours ? Make(current_)
                                    : FillDestination(current_));
  }
  return absl::OkStatus();
}

at::Tensor Deserializer::Make(int tensor) const {
  int first = manifest().first_view(tensor);
  at::Tensor result;
  if (manifest().kind(tensor) == TensorKind::kDense) {
    result = MakeView(first);
  } else {
    std::vector<at::Tensor> components;
    for (int v = first; v < manifest().first_view(tensor + 1); ++v) {
      components.push_back(MakeView(v));
    }
    result = Compose(manifest(), tensor, std::move(components));
  }
  if (manifest().has_flag(tensor, kRequiresGrad)) {
    result.set_requires_grad(true);
  }
  return result;
}

at::Tensor Deserializer::MakeView(int index) const {
  Manifest::View view = manifest().view(index);
  at::Tensor tensor = TensorOnStorage(buffers_.storages_[view.storage],
                                      ScalarTypeOf(view.dtype), view.offset,
                                      view.sizes, view.strides);
  if (view.conj) tensor._set_conj(true);
  if (view.neg) tensor._set_neg(true);
  return tensor;
}

at::Tensor Deserializer::FillDestination(int tensor) const {
  at::Tensor destination = buffers_.destinations_[tensor];
  if (buffers_.copied_[tensor]) {
    destination.copy_(MakeView(manifest().first_view(tensor)));
  } else if (!destination.is_inference()) {
    // It was written to behind autograd's back.
    destination.unsafeGetTensorImpl()->bump_version();
  }
  return destination;
}

std::vector<c10::Stream> Deserializer::DeviceStreams() const {
  std::vector<c10::Stream> streams;
  for (const Region& region : buffers_.regions_) {
    if (region.device().is_cpu()) continue;
    if (std::find(streams.begin(), streams.end(), region.stream) ==
        streams.end()) {
      streams.push_back(region.stream);
    }
  }
  return streams;
}

absl::StatusOr<TensorMessage> Deserialize(ReadBuffers buffers) {
  return Deserializer(std::move(buffers)).Run();
}

}  // namespace tensorferry
