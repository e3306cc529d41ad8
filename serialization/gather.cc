#include "serialization/gather.h"

#include <ATen/ops/empty_like.h>

#include <vector>

#include "serialization/tensor_on_storage.h"
#include "serialization/torch_types.h"

namespace tensorferry {
bool IsWorthGathering(absl::Span<const int64_t> sizes,
                      absl::Span<const int64_t> strides) {
  uint64_t covered = 1, last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return false;
    if (strides[d] == 0) continue;
    covered *= static_cast<uint64_t>(sizes[d]);
    last +=
        static_cast<uint64_t>(sizes[d] - 1) * static_cast<uint64_t>(strides[d]);
  }
  return 2 * covered < last + 1;
}

at::Tensor Gather(const c10::TensorImpl& tensor) {
  std::vector<int64_t> sizes = tensor.sizes().vec();
  std::vector<int64_t> strides = tensor.strides().vec();
  // Each element once: what was expanded is expanded again below.
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (strides[d] == 0) sizes[d] = 1;
  }
  at::Tensor holey =
      TensorOnStorage(tensor.storage(), BitsOf(tensor.dtype().itemsize()),
                      tensor.storage_offset(), sizes, strides);
  at::Tensor dense =
      at::empty_like(holey, holey.options(), c10::MemoryFormat::Preserve);
  dense.copy_(holey);
  std::vector<int64_t> dense_strides = dense.strides().vec();
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (strides[d] == 0) dense_strides[d] = 0;
  }
  dense.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(),
                                                     dense_strides);
  return dense;
}

}  // namespace tensorferry
