#include "serialization/deserialize.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

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
  void Unpack();
  std::string TakeName(int tensor);
  at::Tensor FillDestination(int tensor);
  void CopyInto(const at::Tensor& destination,
                const Manifest::View& view) const;
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
  Unpack();
  for (current_ = 0; current_ < tensors; ++current_) {
    if (manifest().named()) {
      message_.names.push_back(TakeName(current_));
    }
    bool ours = buffers_.destinations_.empty() ||
                !buffers_.destinations_[current_].defined();
    message_.tensors.push_back(ours ? Make(current_)
                                    : FillDestination(current_));
  }
  return absl::OkStatus();
}

// A destination's is there already, in memory of its own.
std::string Deserializer::TakeName(int tensor) {
  if (!buffers_.names_.empty() && !buffers_.names_[tensor].empty()) {
    return std::move(buffers_.names_[tensor]);
  }
  return std::string(manifest().tensor_name(tensor));
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

// Brings storages that came packed with others to their targets, as bytes. On a
// device the others leave their buffer as well: memory that is only a part of
// an allocation libtorch does not know, and Tensor::record_stream would do
// nothing.
void Deserializer::Unpack() {
  for (int s = 0; s < manifest().storage_count(); ++s) {
    const int buffer = manifest().storage_buffer(s);
    if (manifest().buffer_storages(buffer) == 1) continue;
    const Region& region = buffers_.regions_[buffer];
    const bool has_target =
        !buffers_.targets_.empty() && buffers_.targets_[s].storage;
    const bool leaves =
        !region.device().is_cpu() && region.converter->CanPack();
    if (!has_target && !leaves) continue;
    auto nbytes = static_cast<int64_t>(manifest().storage_nbytes(s));
    if (nbytes == 0) continue;
    if (has_target && region.device().is_cpu()) {
      std::memcpy(buffers_.targets_[s].data(),
                  region.data + manifest().storage_at(s), nbytes);
      continue;
    }
    at::Tensor packed =
        TensorOnStorage(buffers_.storages_[s], c10::kByte, 0, {nbytes}, {});
    if (!has_target) {
      buffers_.storages_[s] = packed.clone().storage();
      continue;
    }
    const StorageTarget& target = buffers_.targets_[s];
    TensorOnStorage(target.storage, c10::kByte,
                    static_cast<int64_t>(target.begin), {nbytes}, {})
        .copy_(packed);
  }
}

at::Tensor Deserializer::FillDestination(int tensor) {
  at::Tensor destination = std::move(buffers_.destinations_[tensor]);
  Manifest::View view = manifest().view(manifest().first_view(tensor));
  if (!buffers_.targets_[view.storage].storage && destination.numel() > 0) {
    CopyInto(destination, view);
  }
  // All of them are written to behind autograd's back.
  if (!destination.is_inference()) {
    destination.unsafeGetTensorImpl()->bump_version();
  }
  return destination;
}

// As bits, unless bits of the view (conjugate, negative) are to be resolved.
void Deserializer::CopyInto(const at::Tensor& destination,
                            const Manifest::View& view) const {
  bool as_bits =
      view.conj == destination.is_conj() && view.neg == destination.is_neg();
  c10::ScalarType type =
      as_bits ? BitsOf(destination.itemsize()) : ScalarTypeOf(view.dtype);
  std::vector<int64_t> sizes(view.sizes.begin(), view.sizes.end());
  std::vector<int64_t> strides = destination.strides().vec();
  // Each element once: where the destination is expanded, so is the view.
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (strides[d] == 0) sizes[d] = 1;
  }
  at::Tensor to = TensorOnStorage(destination.storage(), type,
                                  destination.storage_offset(), sizes, strides);
  at::Tensor from = TensorOnStorage(buffers_.storages_[view.storage], type,
                                    view.offset, sizes, view.strides);
  if (!as_bits) {
    to._set_conj(destination.is_conj());
    to._set_neg(destination.is_neg());
    from._set_conj(view.conj);
    from._set_neg(view.neg);
  }
  to.copy_(from);
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
