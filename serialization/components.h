#ifndef TENSORFERRY_SERIALIZATION_COMPONENTS_H_
#define TENSORFERRY_SERIALIZATION_COMPONENTS_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "absl/status/statusor.h"
#include "serialization/manifest.h"

namespace tensorferry {

// What a tensor that is not dense is made of, both ways. All of these throw
// what libtorch throws.

// INVALID_ARGUMENT: a tensor that cannot be sent; the message is a clause that
// follows its name ("is undefined").
absl::StatusOr<TensorKind> KindOf(const at::Tensor& tensor);

// The strided tensors that a sparse or quantised `tensor` consists of, in the
// order of a manifest's views. Appends what the manifest has beside them (the
// sparse shape, scale, axis) to `columns`, and the coalesced flag to the last
// entry of tensor_flags.
std::vector<at::Tensor> AppendComponents(const at::Tensor& tensor,
                                         TensorKind kind,
                                         ManifestColumns* columns);

// The tensor of `manifest` that consists of `components`, whose memory it
// shares. Checks the values of indices, which takes time in their number.
at::Tensor Compose(const Manifest& manifest, int tensor,
                   std::vector<at::Tensor> components);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_COMPONENTS_H_
