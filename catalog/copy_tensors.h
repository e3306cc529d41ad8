#ifndef TENSORFERRY_CATALOG_COPY_TENSORS_H_
#define TENSORFERRY_CATALOG_COPY_TENSORS_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "absl/status/statusor.h"

namespace tensorferry {

// Copies of `tensors` on their own devices. Those that share a storage share a
// copy of it, with the strides and offsets they had; requires_grad is kept,
// grad_fn is not. Not needed for tensors that nobody else holds.
// RESOURCE_EXHAUSTED: no memory. INVALID_ARGUMENT: a tensor that cannot be
// copied (libtorch says why).
absl::StatusOr<std::vector<at::Tensor>> CopyTensors(
    std::vector<at::Tensor> tensors);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_COPY_TENSORS_H_
