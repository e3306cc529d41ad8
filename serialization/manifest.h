#ifndef TENSORFERRY_SERIALIZATION_MANIFEST_H_
#define TENSORFERRY_SERIALIZATION_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/device_id.h"
#include "base/limits.h"
#include "base/placement.h"
#include "serialization/dtype.h"
#include "serialization/manifest_columns.h"

namespace tensorferry {

// The typed description of a message, sent ahead of its bytes. Five levels:
//
//   tensor  -> what the user sees: name, kind, flags
//   view    -> a strided window on one storage; a dense tensor has one, a COO
//              tensor two (values, indices), a compressed one three (values,
//              compressed indices, plain indices), a per-channel quantised one
//              three (data, scales, zero points)
//   storage -> an alias group: the unit of placement and of digests
//   buffer  -> a contiguous region that crosses the wire; holds one storage,
//              or many small ones
//   (piece) -> part of a buffer in one step of a transfer; not in the manifest
//
// Kept in columns: 10,000 tensors are a few allocations, not 100,000.
// A manifest is well formed: Create checks every index, sum and product in it,
// so that readers need no checks of their own. Immutable, so thread-safe.
class Manifest {
 public:
  // Of no tensors and no payload.
  Manifest() = default;

  // INVALID_ARGUMENT, naming what and where: columns that contradict
  // themselves. RESOURCE_EXHAUSTED: a limit, named.
  static absl::StatusOr<Manifest> Create(ManifestColumns columns,
                                         const Limits& limits);

  uint32_t type() const { return columns_.type; }
  int64_t id() const { return columns_.id; }
  uint64_t payload_nbytes() const { return columns_.payload_nbytes; }

  int tensor_count() const { return static_cast<int>(columns_.kinds.size()); }
  bool named() const { return !columns_.name_lengths.empty(); }
  absl::string_view tensor_name(int tensor) const;  // "" if unnamed
  int FindTensor(absl::string_view name) const;     // -1: none
  TensorKind kind(int tensor) const {
    return static_cast<TensorKind>(columns_.kinds[tensor]);
  }
  bool has_flag(int tensor, TensorFlag flag) const {
    return (columns_.tensor_flags[tensor] & flag) != 0;
  }
  Dtype dtype(int tensor) const { return view(first_view(tensor)).dtype; }
  // The tensor's own; a dense tensor's are its view's.
  absl::Span<const int64_t> sizes(int tensor) const;
  // `tensor 3 "encoder.weight"`, for messages.
  std::string Describe(int tensor) const;

  // The views of a tensor are first_view(t) .. first_view(t + 1) - 1.
  int view_count() const { return static_cast<int>(columns_.dtypes.size()); }
  int first_view(int tensor) const { return first_view_[tensor]; }
  struct View {
    Dtype dtype;
    bool conj, neg;
    int storage;
    int64_t offset;                     // in elements
    absl::Span<const int64_t> sizes;    //
    absl::Span<const int64_t> strides;  // empty: contiguous
  };
  View view(int view) const;

  // Of per-tensor quantised ones.
  double scale(int tensor) const { return columns_.scales[extra_[tensor]]; }
  int64_t zero_point(int tensor) const {
    return columns_.zero_points[extra_[tensor]];
  }
  // Of per-channel quantised ones.
  int axis(int tensor) const { return columns_.axes[extra_[tensor]]; }

  struct StorageEntry {
    DeviceId source, target;
    uint64_t nbytes = 0;
    int buffer = 0;   // the buffer that carries it
    uint64_t at = 0;  // where in the buffer; a multiple of kPackAlignment
  };
  int storage_count() const {
    return static_cast<int>(columns_.storage_nbytes.size());
  }
  StorageEntry storage(int storage) const;
  int storage_buffer(int storage) const {
    return static_cast<int>(columns_.storage_buffers[storage]);
  }
  uint64_t storage_nbytes(int storage) const {
    return columns_.storage_nbytes[storage];
  }
  uint64_t storage_at(int storage) const { return storage_at_[storage]; }

  // Buffers in the order of regions. The payload, if there is one, is the
  // last buffer, on the CPU of both sides.
  int buffer_count() const { return static_cast<int>(buffer_nbytes_.size()); }
  uint64_t buffer_nbytes(int buffer) const { return buffer_nbytes_[buffer]; }
  const DeviceId& buffer_source(int buffer) const;
  const DeviceId& buffer_target(int buffer) const;
  // How many storages a buffer carries; 0 for the payload.
  int buffer_storages(int buffer) const { return buffer_storages_[buffer]; }
  uint64_t BytesOnWire() const { return bytes_on_wire_; }

  const ManifestColumns& columns() const { return columns_; }

 private:
  friend class ManifestChecker;

  ManifestColumns columns_;

  // Derived by Create.
  std::vector<uint32_t> first_view_ = {0};  // by tensor, and the end
  std::vector<uint32_t> extra_;         // by tensor: into its kind's columns
  std::vector<uint32_t> first_dim_;     // by view
  std::vector<uint32_t> first_stride_;  // by view; meaningless if contiguous
  std::vector<uint32_t> first_sparse_dim_;  // by sparse tensor
  std::vector<uint64_t> first_name_;        // by tensor, and the end
  std::vector<uint32_t> name_table_;        // open addressing: 1 + tensor
  std::vector<uint64_t> storage_at_;
  std::vector<uint64_t> buffer_nbytes_;
  std::vector<uint32_t> buffer_storages_;
  uint64_t bytes_on_wire_ = 0;
};

inline Manifest::View Manifest::view(int view) const {
  uint8_t flags = columns_.view_flags[view];
  size_t rank = static_cast<uint8_t>(columns_.ranks[view]);
  View result;
  result.dtype = static_cast<Dtype>(columns_.dtypes[view]);
  result.conj = (flags & kConj) != 0;
  result.neg = (flags & kNeg) != 0;
  result.storage = static_cast<int>(columns_.view_storages[view]);
  result.offset = columns_.offsets[view];
  result.sizes =
      absl::MakeConstSpan(columns_.sizes).subspan(first_dim_[view], rank);
  if ((flags & kStrided) != 0) {
    result.strides = absl::MakeConstSpan(columns_.strides)
                         .subspan(first_stride_[view], rank);
  }
  return result;
}

// Deterministic: equal manifests give equal bytes. Format version 1, see
// docs/wire_format.md.
std::string EncodeManifest(const Manifest& manifest);

// INVALID_ARGUMENT, naming what and where: not a manifest, or one that
// contradicts itself. RESOURCE_EXHAUSTED: a limit, named.
absl::StatusOr<Manifest> DecodeManifest(absl::string_view bytes,
                                        const Limits& limits);

// The receiver's check of what the sender decided: every storage's target is
// what `placement` gives for its source device and the names of its tensors.
// FAILED_PRECONDITION: names the tensor, its target and the agreed one.
// RESOURCE_EXHAUSTED: matching all names takes more than kMatchSteps.
absl::Status CheckPlacement(const Manifest& manifest,
                            const Placement& placement);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_MANIFEST_H_
