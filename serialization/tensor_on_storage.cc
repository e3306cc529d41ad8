#include "serialization/tensor_on_storage.h"

#include <c10/core/TensorImpl.h>
#include <c10/core/TensorOptions.h>

#include <optional>
#include <utility>

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

}  // namespace tensorferry
