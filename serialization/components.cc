#include "serialization/components.h"

#include <ATen/ops/_empty_affine_quantized.h>
#include <ATen/ops/_empty_per_channel_affine_quantized.h>
#include <ATen/ops/_sparse_compressed_tensor_unsafe.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/_validate_sparse_compressed_tensor_args.h>
#include <ATen/ops/_validate_sparse_coo_tensor_args.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

absl::Status Unsendable(absl::string_view why) {
  return absl::InvalidArgumentError(why);
}

c10::IntArrayRef RefOf(absl::Span<const int64_t> numbers) {
  return {numbers.data(), numbers.size()};
}

c10::Layout LayoutOf(TensorKind kind) {
  switch (kind) {
    case TensorKind::kCsr:
      return c10::kSparseCsr;
    case TensorKind::kCsc:
      return c10::kSparseCsc;
    case TensorKind::kBsr:
      return c10::kSparseBsr;
    case TensorKind::kBsc:
      return c10::kSparseBsc;
    default:
      return c10::kSparse;
  }
}

bool HasCompressedRows(TensorKind kind) {
  return kind == TensorKind::kCsr || kind == TensorKind::kBsr;
}

// Nothing in libtorch keeps these equal: a resized tensor has others.
absl::StatusOr<TensorKind> KindOfPerChannel(const at::Tensor& tensor) {
  int64_t axis = tensor.q_per_channel_axis();
  int64_t channels = axis < tensor.dim() ? tensor.size(axis) : 0;
  int64_t scales = tensor.q_per_channel_scales().numel();
  if (scales == channels) return TensorKind::kPerChannelAffine;
  return Unsendable(absl::StrCat("has ", channels, " channels along axis ",
                                 axis, ", but ", scales, " scales"));
}

absl::StatusOr<TensorKind> KindOfStrided(const at::Tensor& tensor) {
  if (tensor._is_zerotensor() || !tensor.has_storage()) {
    return Unsendable("has no storage; send a copy of it");
  }
  if (!tensor.is_quantized()) return TensorKind::kDense;
  switch (tensor.qscheme()) {
    case c10::kPerTensorAffine:
      return TensorKind::kPerTensorAffine;
    case c10::kPerChannelAffine:
    case c10::kPerChannelAffineFloatQParams:
      return KindOfPerChannel(tensor);
    default:
      return Unsendable(absl::StrCat("has the quantisation scheme ",
                                     c10::toString(tensor.qscheme()),
                                     ", which cannot be sent"));
  }
}

at::Tensor ComposeQuantised(const Manifest& manifest, int tensor,
                            const std::vector<at::Tensor>& components) {
  const at::Tensor& data = components[0];
  auto options = at::TensorOptions()
                     .dtype(ScalarTypeOf(manifest.dtype(tensor)))
                     .device(data.device());
  at::Tensor result =
      manifest.kind(tensor) == TensorKind::kPerTensorAffine
          ? at::_empty_affine_quantized({0}, options, manifest.scale(tensor),
                                        manifest.zero_point(tensor))
          : at::_empty_per_channel_affine_quantized(
                {0}, components[1], components[2], manifest.axis(tensor),
                options);
  c10::TensorImpl* impl = result.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(data.storage());
  impl->set_sizes_and_strides(data.sizes(), data.strides(),
                              data.storage_offset());
  return result;
}

}  // namespace

absl::StatusOr<TensorKind> KindOf(const at::Tensor& tensor) {
  if (!tensor.defined()) return Unsendable("is undefined");
  if (tensor.is_nested()) return Unsendable("is nested; send its parts");
  if (tensor.is_meta()) return Unsendable("is a meta tensor: it has no data");
  switch (tensor.layout()) {
    case c10::kStrided:
      return KindOfStrided(tensor);
    case c10::kSparse:
      return TensorKind::kCoo;
    case c10::kSparseCsr:
      return TensorKind::kCsr;
    case c10::kSparseCsc:
      return TensorKind::kCsc;
    case c10::kSparseBsr:
      return TensorKind::kBsr;
    case c10::kSparseBsc:
      return TensorKind::kBsc;
    case c10::kMkldnn:
      return Unsendable("has the MKL-DNN layout; send its to_dense()");
    default:
      return Unsendable("has a layout that cannot be sent");
  }
}

std::vector<at::Tensor> AppendComponents(const at::Tensor& tensor,
                                         TensorKind kind,
                                         ManifestColumns* columns) {
  if (kind == TensorKind::kPerTensorAffine) {
    columns->scales.push_back(tensor.q_scale());
    columns->zero_points.push_back(tensor.q_zero_point());
    return {tensor};
  }
  if (kind == TensorKind::kPerChannelAffine) {
    columns->axes.push_back(static_cast<uint32_t>(tensor.q_per_channel_axis()));
    return {tensor, tensor.q_per_channel_scales(),
            tensor.q_per_channel_zero_points()};
  }
  columns->sparse_ranks.push_back(static_cast<char>(tensor.dim()));
  columns->sparse_sizes.insert(columns->sparse_sizes.end(),
                               tensor.sizes().begin(), tensor.sizes().end());
  if (kind == TensorKind::kCoo) {
    if (tensor.is_coalesced()) columns->tensor_flags.back() |= kCoalesced;
    return {tensor._values(), tensor._indices()};
  }
  if (HasCompressedRows(kind)) {
    return {tensor.values(), tensor.crow_indices(), tensor.col_indices()};
  }
  return {tensor.values(), tensor.ccol_indices(), tensor.row_indices()};
}

at::Tensor Compose(const Manifest& manifest, int tensor,
                   std::vector<at::Tensor> components) {
  TensorKind kind = manifest.kind(tensor);
  if (kind == TensorKind::kDense) return std::move(components[0]);
  if (IsQuantised(kind)) return ComposeQuantised(manifest, tensor, components);
  c10::IntArrayRef sizes = RefOf(manifest.sizes(tensor));
  const at::Tensor& values = components[0];
  auto options = values.options().layout(LayoutOf(kind));
  // Indices on a device are not looked at: the host would wait for it.
  const bool checked = values.is_cpu();
  if (kind == TensorKind::kCoo) {
    bool coalesced = manifest.has_flag(tensor, kCoalesced);
    if (checked) {
      at::_validate_sparse_coo_tensor_args(components[1], values, sizes,
                                           coalesced);
    }
    return at::_sparse_coo_tensor_unsafe(components[1], values, sizes, options,
                                         coalesced);
  }
  if (checked) {
    at::_validate_sparse_compressed_tensor_args(components[1], components[2],
                                                values, sizes, LayoutOf(kind));
  }
  return at::_sparse_compressed_tensor_unsafe(components[1], components[2],
                                              values, sizes, options);
}

}  // namespace tensorferry
