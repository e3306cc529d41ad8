#ifndef TENSORFERRY_SERIALIZATION_TORCH_RPC_PICKLE_H_
#define TENSORFERRY_SERIALIZATION_TORCH_RPC_PICKLE_H_

#include <c10/core/Layout.h>
#include <c10/core/QScheme.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/limits.h"

namespace tensorferry {

// What libtorch's Pickler writes for a list of tensors, as plain values. They
// are a peer's claims: only what is said here has been checked.

// The i-th storage is the i-th tensor of the tensorpipe message.
struct PickledStorage {
  c10::ScalarType dtype;  // of every window on it
  int64_t numel = 0;      // not negative
};

struct PickledWindow {
  int storage = 0;  // there is one with this number
  int64_t offset = 0;
  std::vector<int64_t> sizes, strides;  // as many, and not too many
  bool requires_grad = false;
  bool conj = false;
  bool neg = false;
};

struct PickledTensor {
  // Strided, Sparse or SparseCsr; says how many parts there are: the tensor
  // itself; indices and values; crow_indices, col_indices and values.
  c10::Layout layout = c10::kStrided;
  std::vector<PickledWindow> parts;

  std::vector<int64_t> sizes;  // of a sparse tensor
  bool requires_grad = false;  // of a sparse tensor

  // Of a quantised tensor: per tensor, or per channel with two more parts,
  // scales and zero points.
  bool quantised = false;
  c10::QScheme qscheme = c10::kPerTensorAffine;
  double scale = 0;
  int64_t zero_point = 0;
  int64_t axis = 0;
};

struct PickledTensors {
  std::vector<PickledStorage> storages;
  std::vector<PickledTensor> tensors;  // each once
  std::vector<int> list;               // numbers of tensors, as sent
};

// INVALID_ARGUMENT, naming the byte: anything that libtorch's Pickler does not
// write for a list of tensors. RESOURCE_EXHAUSTED: more than limits.tensors, or
// more dimensions than limits.rank.
absl::StatusOr<PickledTensors> ReadPickledTensors(absl::string_view pickle,
                                                  const Limits& limits);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_RPC_PICKLE_H_
