#include "serialization/tensor_on_storage.h"

#include <c10/core/TensorImpl.h>
#include <c10/core/TensorOptions.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "serialization/strided.h"
#include "serialization/torch_types.h"

namespace tensorferry {

at::Tensor TensorOnStorage(c10::Storage storage, c10::ScalarType type,
                           int64_t offset, absl::Span<const int64_t> sizes,
                           absl::Span<const int64_t> strides) {
  c10::DispatchKey key =
      c10::computeDispatchKey(type, c10::kStrided, storage.device());
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key),
      c10::scalarTypeToTypeMeta(type));
  c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  c10::IntArrayRef shape(sizes.data(), sizes.size());
  if (strides.empty()) {
    impl->set_sizes_contiguous(shape);
    impl->set_storage_offset(offset);
  } else {
    impl->set_sizes_and_strides(
        shape, c10::IntArrayRef(strides.data(), strides.size()), offset);
  }
  return tensor;
}

absl::Status CheckMemory(const c10::TensorImpl& tensor) {
  if (tensor.numel() == 0) return absl::OkStatus();
  FERRY_ASSIGN_OR_RETURN(Dtype dtype,
                         DtypeOf(c10::typeMetaToScalarType(tensor.dtype())));
  absl::Span<const int64_t> sizes(tensor.sizes().data(), tensor.dim());
  absl::Span<const int64_t> strides(tensor.strides().data(), tensor.dim());
  if (AreContiguous(sizes, strides)) strides = {};
  const c10::Storage& storage = tensor.storage();
  uint64_t end;
  if (!EndOf(InfoOf(dtype), tensor.storage_offset(), sizes, strides, &end) ||
      end > storage.nbytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("does not lie in its storage of ", storage.nbytes(),
                     " bytes: sizes [", absl::StrJoin(sizes, ", "),
                     "], strides [", absl::StrJoin(tensor.strides(), ", "),
                     "], offset ", tensor.storage_offset()));
  }
  // As const: this neither copies a storage that is copied on write.
  if (storage.data() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("has a storage of ", storage.nbytes(),
                     " bytes without memory; send a copy of it"));
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
