#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "serialization/manifest.h"
#include "serialization/name_table.h"
#include "serialization/strided.h"

namespace tensorferry {
namespace {

template <class... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", parts...));
}

template <class... Parts>
absl::Status Exhausted(absl::string_view limit, const Parts&... parts) {
  return absl::ResourceExhaustedError(
      absl::StrCat("manifest: ", parts..., ", over the limit ", limit));
}

absl::Status WrongLength(absl::string_view column, size_t got, size_t want) {
  return Invalid("column ", column, " has ", got, " entries, want ", want);
}

// Whether `index` is known or the next number; counts it if it is new.
bool NumberedByFirstUse(uint32_t index, uint32_t* used) {
  if (index > *used) return false;
  if (index == *used) ++*used;
  return true;
}

// What libtorch can keep for later in a tensor of this dtype. Indices, scales
// and zero points are used as they lie in memory.
uint8_t FlagsOf(const DtypeInfo& dtype) {
  if (dtype.type_class == DtypeInfo::kComplex) return kConj | kNeg;
  bool is_number =
      dtype.type_class == DtypeInfo::kReal && &dtype != &InfoOf(Dtype::kBool);
  return is_number ? kNeg : 0;
}

}  // namespace

// Checks columns from the lowest index up and derives what a Manifest keeps
// beside them.
class ManifestChecker {
 public:
  ManifestChecker(ManifestColumns columns, const Limits& limits)
      : limits_(limits) {
    manifest_.columns_ = std::move(columns);
  }

  absl::StatusOr<Manifest> Check() {
    FERRY_RETURN_IF_ERROR(CheckTensors());
    FERRY_RETURN_IF_ERROR(CheckNames());
    FERRY_RETURN_IF_ERROR(CheckColumnLengths());
    FERRY_RETURN_IF_ERROR(CheckDims());
    FERRY_RETURN_IF_ERROR(CheckDevices());
    FERRY_RETURN_IF_ERROR(CheckStorages());
    FERRY_RETURN_IF_ERROR(CheckViews());
    FERRY_RETURN_IF_ERROR(CheckComposites());
    return std::move(manifest_);
  }

 private:
  ManifestColumns& columns() { return manifest_.columns_; }
  std::string Tensor(int tensor) const { return manifest_.Describe(tensor); }

  absl::Status CheckTensors();
  absl::Status CheckNames();
  absl::Status CheckColumnLengths();
  absl::Status CheckDims();
  absl::Status CheckDevices();
  absl::Status CheckStorages();
  absl::Status CheckBuffer(uint32_t storage);
  absl::Status SumBuffers();
  absl::Status CheckViews();
  absl::Status CheckView(int tensor, int view, uint32_t* storages_used);
  absl::Status CheckComposites();
  absl::Status CheckSparse(int tensor, absl::Span<const int64_t> sizes);
  absl::Status CheckCoo(int tensor, absl::Span<const int64_t> sizes);
  absl::Status CheckCompressed(int tensor, absl::Span<const int64_t> sizes);
  absl::Status CheckPerChannel(int tensor);

  const Limits& limits_;
  Manifest manifest_;
  int sparse_ = 0, per_tensor_ = 0, per_channel_ = 0;
};

absl::Status ManifestChecker::CheckTensors() {
  const std::string& kinds = columns().kinds;
  if (kinds.size() > limits_.tensors) {
    return Exhausted("tensors", kinds.size(), " tensors");
  }
  if (columns().tensor_flags.size() != kinds.size()) {
    return WrongLength("tensor_flags", columns().tensor_flags.size(),
                       kinds.size());
  }
  manifest_.first_view_.resize(kinds.size() + 1);
  manifest_.extra_.resize(kinds.size());
  uint32_t views = 0;
  for (size_t t = 0; t < kinds.size(); ++t) {
    uint8_t code = kinds[t];
    if (code >= kTensorKinds) {
      return Invalid("tensor ", t, " is of unknown kind ", code);
    }
    TensorKind kind = static_cast<TensorKind>(code);
    uint8_t known = kRequiresGrad | (kind == TensorKind::kCoo ? kCoalesced : 0);
    if ((columns().tensor_flags[t] & ~known) != 0) {
      return Invalid("tensor ", t, " has flags that its kind does not have");
    }
    manifest_.first_view_[t] = views;
    views += ViewsOf(kind);
    if (kind == TensorKind::kPerTensorAffine) {
      manifest_.extra_[t] = per_tensor_++;
    } else if (kind == TensorKind::kPerChannelAffine) {
      manifest_.extra_[t] = per_channel_++;
    } else if (IsSparse(kind)) {
      manifest_.extra_[t] = sparse_++;
    }
  }
  manifest_.first_view_.back() = views;
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckNames() {
  const std::vector<uint32_t>& lengths = columns().name_lengths;
  if (!lengths.empty() && lengths.size() != columns().kinds.size()) {
    return WrongLength("name_lengths", lengths.size(), columns().kinds.size());
  }
  uint64_t begin = 0;
  manifest_.first_name_.resize(lengths.size());
  for (size_t t = 0; t < lengths.size(); ++t) {
    if (lengths[t] == 0) return Invalid("tensor ", t, " has an empty name");
    if (lengths[t] > limits_.name_bytes) {
      return Exhausted("name_bytes", "name of tensor ", t, " has ", lengths[t],
                       " bytes");
    }
    manifest_.first_name_[t] = begin;
    begin += lengths[t];
  }
  if (begin != columns().names.size()) {
    return Invalid("names have ", columns().names.size(), " bytes, lengths sum",
                   " to ", begin);
  }
  if (lengths.empty()) return absl::OkStatus();
  auto name_of = [this](int tensor) { return manifest_.tensor_name(tensor); };
  manifest_.name_table_ = NameTableFor(lengths.size());
  for (int t = 0; t < manifest_.tensor_count(); ++t) {
    int other = AddName(manifest_.name_table_, name_of(t), t, name_of);
    if (other >= 0) {
      return Invalid("tensors ", other, " and ", t,
                     " have the same name: ", Tensor(t));
    }
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckColumnLengths() {
  const ManifestColumns& c = columns();
  size_t views = manifest_.first_view_.back();
  struct {
    absl::string_view name;
    size_t got, want;
  } per_item[] = {
      {"dtypes", c.dtypes.size(), views},
      {"view_flags", c.view_flags.size(), views},
      {"ranks", c.ranks.size(), views},
      {"view_storages", c.view_storages.size(), views},
      {"offsets", c.offsets.size(), views},
      {"sparse_ranks", c.sparse_ranks.size(), size_t(sparse_)},
      {"scales", c.scales.size(), size_t(per_tensor_)},
      {"zero_points", c.zero_points.size(), size_t(per_tensor_)},
      {"axes", c.axes.size(), size_t(per_channel_)},
      {"storage_buffers", c.storage_buffers.size(), c.storage_nbytes.size()},
      {"buffer_targets", c.buffer_targets.size(), c.buffer_sources.size()},
  };
  for (const auto& column : per_item) {
    if (column.got != column.want) {
      return WrongLength(column.name, column.got, column.want);
    }
  }
  return absl::OkStatus();
}

// Where each view's sizes and strides begin, and that they end with the column.
absl::Status ManifestChecker::CheckDims() {
  const ManifestColumns& c = columns();
  size_t views = c.ranks.size();
  size_t dims = 0, strides = 0, sparse_dims = 0;
  manifest_.first_dim_.resize(views);
  manifest_.first_stride_.resize(views);
  for (size_t v = 0; v < views; ++v) {
    uint8_t rank = c.ranks[v];
    if (rank > limits_.rank) {
      return Exhausted("rank", "view ", v, " has ", rank, " dimensions");
    }
    manifest_.first_dim_[v] = dims;
    manifest_.first_stride_[v] = strides;
    dims += rank;
    if ((c.view_flags[v] & kStrided) != 0) strides += rank;
  }
  for (uint8_t rank : c.sparse_ranks) {
    if (rank > limits_.rank) {
      return Exhausted("rank", "a sparse tensor has ", rank, " dimensions");
    }
    manifest_.first_sparse_dim_.push_back(sparse_dims);
    sparse_dims += rank;
  }
  if (c.sizes.size() != dims) return WrongLength("sizes", c.sizes.size(), dims);
  if (c.strides.size() != strides) {
    return WrongLength("strides", c.strides.size(), strides);
  }
  if (c.sparse_sizes.size() != sparse_dims) {
    return WrongLength("sparse_sizes", c.sparse_sizes.size(), sparse_dims);
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckDevices() {
  const std::vector<DeviceId>& devices = columns().devices;
  if (devices.size() > kMostDevices) {
    return Invalid(devices.size(), " devices, more than ", kMostDevices);
  }
  for (size_t d = 0; d < devices.size(); ++d) {
    FERRY_RETURN_IF_ERROR(ValidateDeviceId(devices[d]));
    auto first = std::find(devices.begin(), devices.begin() + d, devices[d]);
    if (first != devices.begin() + d) {
      return Invalid("device ", ToString(devices[d]), " is listed twice");
    }
  }
  uint32_t used = 0;
  for (size_t b = 0; b < columns().buffer_sources.size(); ++b) {
    if (!NumberedByFirstUse(columns().buffer_sources[b], &used) ||
        !NumberedByFirstUse(columns().buffer_targets[b], &used) ||
        used > devices.size()) {
      return Invalid("devices of buffer ", b, " are not numbered by first use");
    }
  }
  if (used != devices.size()) {
    return Invalid(devices.size(), " devices, of which ", used, " are used");
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckStorages() {
  const ManifestColumns& c = columns();
  size_t buffers = c.buffer_sources.size();
  if (c.storage_nbytes.size() > c.dtypes.size()) {
    return Invalid(c.storage_nbytes.size(), " storages for ", c.dtypes.size(),
                   " views");
  }
  if (buffers > c.storage_nbytes.size()) {
    return Invalid(buffers, " buffers for ", c.storage_nbytes.size(),
                   " storages");
  }
  manifest_.storage_at_.resize(c.storage_nbytes.size());
  manifest_.buffer_nbytes_.resize(buffers);
  manifest_.buffer_storages_.resize(buffers);
  uint32_t used = 0;
  for (size_t s = 0; s < c.storage_nbytes.size(); ++s) {
    if (!NumberedByFirstUse(c.storage_buffers[s], &used) || used > buffers) {
      return Invalid("buffer of storage ", s, " is not numbered by first use");
    }
    FERRY_RETURN_IF_ERROR(CheckBuffer(s));
  }
  if (used != buffers) {
    return Invalid(buffers, " buffers, of which ", used, " are used");
  }
  return SumBuffers();
}

// Puts storage after what its buffer holds already.
absl::Status ManifestChecker::CheckBuffer(uint32_t storage) {
  uint64_t nbytes = columns().storage_nbytes[storage];
  uint32_t buffer = columns().storage_buffers[storage];
  uint64_t& end = manifest_.buffer_nbytes_[buffer];
  if (nbytes > limits_.message_bytes) {
    return Exhausted("message_bytes", "storage ", storage, " has ", nbytes,
                     " bytes");
  }
  // Neither can overflow: each storage passed the limit, and so did each sum.
  uint64_t at = (end + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
  if (at < end || at + nbytes < at || at + nbytes > limits_.message_bytes) {
    return Exhausted("message_bytes", "buffer ", buffer, " has ", at, " + ",
                     nbytes, " bytes");
  }
  manifest_.storage_at_[storage] = at;
  end = at + nbytes;
  ++manifest_.buffer_storages_[buffer];
  return absl::OkStatus();
}

absl::Status ManifestChecker::SumBuffers() {
  if (columns().payload_nbytes > limits_.payload_bytes) {
    return Exhausted("payload_bytes", "payload of ", columns().payload_nbytes,
                     " bytes");
  }
  if (columns().payload_nbytes > 0) {
    manifest_.buffer_nbytes_.push_back(columns().payload_nbytes);
    manifest_.buffer_storages_.push_back(0);
  }
  uint64_t left = limits_.message_bytes;
  for (uint64_t nbytes : manifest_.buffer_nbytes_) {
    if (nbytes > left) {
      return Exhausted("message_bytes", "the message has more than ",
                       limits_.message_bytes, " bytes");
    }
    left -= nbytes;
  }
  manifest_.bytes_on_wire_ = limits_.message_bytes - left;
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckViews() {
  uint32_t storages_used = 0;
  for (int t = 0; t < manifest_.tensor_count(); ++t) {
    for (int v = manifest_.first_view(t); v < manifest_.first_view(t + 1);
         ++v) {
      FERRY_RETURN_IF_ERROR(CheckView(t, v, &storages_used));
    }
  }
  if (storages_used != columns().storage_nbytes.size()) {
    return Invalid(columns().storage_nbytes.size(), " storages, of which ",
                   storages_used, " are used");
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckView(int tensor, int view,
                                        uint32_t* storages_used) {
  const DtypeInfo* dtype = FindDtype(columns().dtypes[view]);
  if (dtype == nullptr) {
    return Invalid(Tensor(tensor), " has the unknown dtype ",
                   static_cast<uint8_t>(columns().dtypes[view]));
  }
  uint8_t flags = columns().view_flags[view];
  uint8_t known = kStrided;
  if (view == manifest_.first_view(tensor)) known |= FlagsOf(*dtype);
  if ((flags & ~known) != 0) {
    return Invalid(Tensor(tensor), " has view flags ", flags, " that ",
                   dtype->name, " views like it do not have");
  }
  uint32_t storage = columns().view_storages[view];
  if (!NumberedByFirstUse(storage, storages_used) ||
      *storages_used > columns().storage_nbytes.size()) {
    return Invalid("storage of ", Tensor(tensor),
                   " is not numbered by first use");
  }
  Manifest::View window = manifest_.view(view);
  uint64_t end;
  if (!EndOf(*dtype, window.offset, window.sizes, window.strides, &end)) {
    return Invalid(
        Tensor(tensor), " has sizes [", absl::StrJoin(window.sizes, ", "),
        "], strides [", absl::StrJoin(window.strides, ", "), "] and offset ",
        window.offset, ", which describe no ", dtype->name, " tensor");
  }
  uint64_t nbytes = columns().storage_nbytes[storage];
  if (end > nbytes) {
    return Invalid(Tensor(tensor), " reaches byte ", end, " of storage ",
                   storage, ", which has ", nbytes);
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckComposites() {
  const ManifestColumns& c = columns();
  for (int t = 0; t < manifest_.tensor_count(); ++t) {
    TensorKind kind = manifest_.kind(t);
    const DtypeInfo& dtype = *FindDtype(c.dtypes[manifest_.first_view(t)]);
    if ((dtype.type_class == DtypeInfo::kQuantised) != IsQuantised(kind)) {
      return Invalid(Tensor(t), " of dtype ", dtype.name,
                     IsQuantised(kind) ? " is" : " is not", " quantised");
    }
    if (manifest_.has_flag(t, kRequiresGrad) && !dtype.differentiable) {
      return Invalid(Tensor(t), " of dtype ", dtype.name, " requires grad");
    }
    if (IsSparse(kind)) {
      FERRY_RETURN_IF_ERROR(CheckSparse(t, manifest_.sizes(t)));
    } else if (kind == TensorKind::kPerChannelAffine) {
      FERRY_RETURN_IF_ERROR(CheckPerChannel(t));
    }
  }
  return absl::OkStatus();
}

// What is checked here is what fits together in the manifest; the values of
// indices are checked when the bytes are there, by Deserialize.
absl::Status ManifestChecker::CheckSparse(int tensor,
                                          absl::Span<const int64_t> sizes) {
  uint64_t numel;
  if (!NumelOf(sizes, &numel)) {
    return Invalid(Tensor(tensor), " has the sizes [",
                   absl::StrJoin(sizes, ", "), "]");
  }
  int first = manifest_.first_view(tensor);
  for (int v = first + 1; v < manifest_.first_view(tensor + 1); ++v) {
    Dtype dtype = manifest_.view(v).dtype;
    bool may_be_int32 = manifest_.kind(tensor) != TensorKind::kCoo;
    if (dtype != Dtype::kInt64 && !(may_be_int32 && dtype == Dtype::kInt32)) {
      return Invalid(Tensor(tensor), " has indices of dtype ",
                     InfoOf(dtype).name);
    }
  }
  return manifest_.kind(tensor) == TensorKind::kCoo
             ? CheckCoo(tensor, sizes)
             : CheckCompressed(tensor, sizes);
}

absl::Status ManifestChecker::CheckCoo(int tensor,
                                       absl::Span<const int64_t> sizes) {
  int first = manifest_.first_view(tensor);
  absl::Span<const int64_t> values = manifest_.view(first).sizes;
  absl::Span<const int64_t> indices = manifest_.view(first + 1).sizes;
  if (indices.size() != 2 || values.empty() || indices[1] != values[0] ||
      indices[0] > static_cast<int64_t>(sizes.size()) ||
      sizes.subspan(indices[0]) != values.subspan(1)) {
    return Invalid(Tensor(tensor), " of sizes [", absl::StrJoin(sizes, ", "),
                   "] has indices of sizes [", absl::StrJoin(indices, ", "),
                   "] and values of sizes [", absl::StrJoin(values, ", "), "]");
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckCompressed(int tensor,
                                              absl::Span<const int64_t> sizes) {
  int first = manifest_.first_view(tensor);
  absl::Span<const int64_t> values = manifest_.view(first).sizes;
  absl::Span<const int64_t> compressed = manifest_.view(first + 1).sizes;
  absl::Span<const int64_t> plain = manifest_.view(first + 2).sizes;
  size_t batch = compressed.empty() ? 0 : compressed.size() - 1;
  if (compressed.empty() || plain.size() != compressed.size() ||
      sizes.size() < batch + 2 || values.size() < batch + 1 ||
      values.subspan(0, batch + 1) != plain) {
    return Invalid(Tensor(tensor), " of sizes [", absl::StrJoin(sizes, ", "),
                   "] has compressed indices of sizes [",
                   absl::StrJoin(compressed, ", "), "], plain indices of [",
                   absl::StrJoin(plain, ", "), "] and values of [",
                   absl::StrJoin(values, ", "), "]");
  }
  return absl::OkStatus();
}

absl::Status ManifestChecker::CheckPerChannel(int tensor) {
  int first = manifest_.first_view(tensor);
  Manifest::View data = manifest_.view(first);
  Manifest::View scales = manifest_.view(first + 1);
  Manifest::View zero_points = manifest_.view(first + 2);
  uint32_t axis = columns().axes[manifest_.extra_[tensor]];
  bool whole =
      scales.dtype == Dtype::kFloat64 && zero_points.dtype == Dtype::kInt64;
  bool floating =
      scales.dtype == Dtype::kFloat32 && zero_points.dtype == Dtype::kFloat32;
  if (!whole && !floating) {
    return Invalid(Tensor(tensor), " has scales of dtype ",
                   InfoOf(scales.dtype).name, " and zero points of ",
                   InfoOf(zero_points.dtype).name);
  }
  if (axis >= data.sizes.size() || scales.sizes.size() != 1 ||
      scales.sizes[0] != data.sizes[axis] ||
      zero_points.sizes != scales.sizes) {
    return Invalid(Tensor(tensor), " of sizes [",
                   absl::StrJoin(data.sizes, ", "), "] has scales of sizes [",
                   absl::StrJoin(scales.sizes, ", "), "] and zero points of [",
                   absl::StrJoin(zero_points.sizes, ", "), "] along axis ",
                   axis);
  }
  return absl::OkStatus();
}

absl::StatusOr<Manifest> Manifest::Create(ManifestColumns columns,
                                          const Limits& limits) {
  return ManifestChecker(std::move(columns), limits).Check();
}

}  // namespace tensorferry
