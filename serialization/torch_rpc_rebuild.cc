#include "serialization/torch_rpc_rebuild.h"

#include <ATen/ops/_empty_affine_quantized.h>
#include <ATen/ops/_empty_per_channel_affine_quantized.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/_sparse_csr_tensor_unsafe.h>
#include <ATen/ops/_validate_sparse_coo_tensor_args.h>
#include <ATen/ops/_validate_sparse_csr_tensor_args.h>
#include <ATen/ops/empty.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "serialization/dtype.h"
#include "serialization/strided.h"
#include "serialization/torch_errors.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

// A window is described by libtorch's dtype and checked by ours.
absl::Status CheckWindow(const PickledWindow& window, c10::ScalarType type,
                         uint64_t nbytes) {
  FERRY_ASSIGN_OR_RETURN(Dtype dtype, DtypeOf(type));
  const DtypeInfo& info = InfoOf(dtype);
  auto ends_within = [&](int64_t offset) {
    absl::Span<const int64_t> strides = window.strides;
    if (AreContiguous(window.sizes, strides)) strides = {};
    uint64_t end;
    return EndOf(info, offset, window.sizes, strides, &end) && end <= nbytes;
  };
  uint64_t numel;
  if (NumelOf(window.sizes, &numel) && window.offset >= 0 &&
      static_cast<uint64_t>(window.offset) <= nbytes / info.itemsize &&
      // An empty window may stand anywhere in its storage, the end included.
      ends_within(numel == 0 ? 0 : window.offset)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("does not lie within the ",
                                                 nbytes, " bytes of storage ",
                                                 window.storage));
}

class Rebuilder {
 public:
  Rebuilder(const PickledTensors& pickled,
            std::vector<ReceivedStorage> received)
      : pickled_(pickled), received_(std::move(received)) {}

  absl::Status MakeStorages() {
    if (pickled_.storages.size() != received_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the pickle has ", pickled_.storages.size(),
                       " storages, but ", received_.size(), " arrived"));
    }
    for (size_t i = 0; i < received_.size(); ++i) {
      FERRY_RETURN_IF_ERROR(MakeStorage(i));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<at::Tensor> Make(const PickledTensor& tensor) {
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < tensor.parts.size(); ++i) {
      // The quantised data itself is made together with its quantiser.
      bool is_data = tensor.quantised && i == 0;
      FERRY_RETURN_IF_ERROR(CheckPart(tensor, i));
      parts.push_back(is_data ? at::Tensor() : MakeDense(tensor.parts[i]));
    }
    if (tensor.quantised) return MakeQuantised(tensor, parts);
    if (tensor.layout != c10::kStrided) return MakeSparse(tensor, parts);
    at::Tensor result = parts[0];
    SetFlags(tensor.parts[0], result);
    return result;
  }

 private:
  absl::Status MakeStorage(size_t i) {
    ReceivedStorage& received = received_[i];
    const PickledStorage& claimed = pickled_.storages[i];
    uint64_t itemsize = c10::elementSize(claimed.dtype);
    if (static_cast<uint64_t>(claimed.numel) > received.nbytes / itemsize) {
      return absl::InvalidArgumentError(absl::StrCat(
          "storage ", i, ": the pickle claims ", claimed.numel, " elements of ",
          itemsize, " bytes, but ", received.nbytes, " bytes arrived"));
    }
    c10::DataPtr data = received.nbytes > 0
                            ? std::move(received.data)
                            : c10::DataPtr(nullptr, received.device);
    storages_.emplace_back(c10::Storage::use_byte_size_t(), received.nbytes,
                           std::move(data), /*allocator=*/nullptr,
                           /*resizable=*/false);
    return absl::OkStatus();
  }

  c10::ScalarType TypeOf(const PickledWindow& window) const {
    return pickled_.storages[window.storage].dtype;
  }

  absl::Status CheckPart(const PickledTensor& tensor, size_t i) const {
    const PickledWindow& window = tensor.parts[i];
    c10::ScalarType type = TypeOf(window);
    FERRY_RETURN_IF_ERROR(
        CheckWindow(window, type, received_[window.storage].nbytes));
    if (c10::isQIntType(type) != (tensor.quantised && i == 0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "part ", i, " cannot be of dtype ", c10::toString(type)));
    }
    if (window.conj && !c10::isComplexType(type)) {
      return absl::InvalidArgumentError("is conjugated, but not complex");
    }
    if (received_[window.storage].device !=
        received_[tensor.parts[0].storage].device) {
      return absl::InvalidArgumentError("is on two devices");
    }
    return absl::OkStatus();
  }

  at::TensorOptions OptionsOf(const PickledWindow& window) const {
    return at::TensorOptions()
        .dtype(TypeOf(window))
        .device(received_[window.storage].device);
  }

  void Place(const PickledWindow& window, const at::Tensor& tensor) const {
    c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
    impl->set_storage_keep_dtype(storages_[window.storage]);
    impl->set_sizes_and_strides(window.sizes, window.strides, window.offset);
  }

  static void SetFlags(const PickledWindow& window, const at::Tensor& tensor) {
    if (window.requires_grad) tensor.set_requires_grad(true);
    if (window.conj) tensor.unsafeGetTensorImpl()->_set_conj(true);
    if (window.neg) tensor.unsafeGetTensorImpl()->_set_neg(true);
  }

  at::Tensor MakeDense(const PickledWindow& window) const {
    at::Tensor tensor = at::empty({0}, OptionsOf(window));
    Place(window, tensor);
    return tensor;
  }

  // Nothing in libtorch looks at these when it uses the tensor.
  static absl::Status CheckChannels(const PickledTensor& tensor,
                                    const std::vector<at::Tensor>& parts) {
    const std::vector<int64_t>& sizes = tensor.parts[0].sizes;
    if (tensor.axis < 0 || tensor.axis >= static_cast<int64_t>(sizes.size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "is quantised along axis ", tensor.axis, " of ", sizes.size()));
    }
    int64_t channels = sizes[tensor.axis];
    if (parts[1].numel() == channels && parts[2].numel() == channels) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("has ", channels, " channels, but ", parts[1].numel(),
                     " scales and ", parts[2].numel(), " zero points"));
  }

  absl::StatusOr<at::Tensor> MakeQuantised(
      const PickledTensor& tensor, const std::vector<at::Tensor>& parts) const {
    const PickledWindow& window = tensor.parts[0];
    at::Tensor result;
    if (tensor.qscheme == c10::kPerTensorAffine) {
      result = at::_empty_affine_quantized({0}, OptionsOf(window), tensor.scale,
                                           tensor.zero_point);
    } else {
      FERRY_RETURN_IF_ERROR(CheckChannels(tensor, parts));
      result = at::_empty_per_channel_affine_quantized(
          {0}, parts[1], parts[2], tensor.axis, OptionsOf(window));
    }
    Place(window, result);
    SetFlags(window, result);
    return result;
  }

  absl::StatusOr<at::Tensor> MakeSparse(
      const PickledTensor& tensor, const std::vector<at::Tensor>& parts) const {
    const at::Tensor& values = parts.back();
    auto options = values.options().layout(tensor.layout);
    at::Tensor result;
    if (tensor.layout == c10::kSparse) {
      if (values.is_cpu()) {
        at::_validate_sparse_coo_tensor_args(parts[0], values, tensor.sizes);
      }
      result = at::_sparse_coo_tensor_unsafe(parts[0], values, tensor.sizes,
                                             options);
    } else {
      if (values.is_cpu()) {
        at::_validate_sparse_csr_tensor_args(parts[0], parts[1], values,
                                             tensor.sizes);
      }
      result = at::_sparse_csr_tensor_unsafe(parts[0], parts[1], values,
                                             tensor.sizes, options);
    }
    if (tensor.requires_grad) result.set_requires_grad(true);
    return result;
  }

  const PickledTensors& pickled_;
  std::vector<ReceivedStorage> received_;
  std::vector<c10::Storage> storages_;
};

}  // namespace

absl::StatusOr<std::vector<at::Tensor>> RebuildTensors(
    const PickledTensors& pickled, std::vector<ReceivedStorage> received) {
  Rebuilder rebuilder(pickled, std::move(received));
  FERRY_RETURN_IF_ERROR(rebuilder.MakeStorages());
  std::vector<at::Tensor> made;
  for (size_t i = 0; i < pickled.tensors.size(); ++i) {
    absl::StatusOr<at::Tensor> tensor = CatchTorchErrors(
        absl::StatusCode::kInvalidArgument, [] { return "libtorch"; },
        [&] { return rebuilder.Make(pickled.tensors[i]); });
    if (!tensor.ok()) {
      return absl::Status(tensor.status().code(),
                          absl::StrCat("tensor ", i, " of the pickle: ",
                                       tensor.status().message()));
    }
    made.push_back(*std::move(tensor));
  }
  std::vector<at::Tensor> tensors;
  for (int number : pickled.list) tensors.push_back(made[number]);
  return tensors;
}

}  // namespace tensorferry
