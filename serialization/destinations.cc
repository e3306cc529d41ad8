#include "serialization/destinations.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "serialization/strided.h"
#include "serialization/tensor_on_storage.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

template <class... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("destination ", parts...));
}

absl::Span<const int64_t> SpanOf(c10::IntArrayRef numbers) {
  return {numbers.data(), numbers.size()};
}

bool SameStrides(const Manifest::View& view, const at::Tensor& tensor) {
  absl::Span<const int64_t> strides = SpanOf(tensor.strides());
  return view.strides.empty() ? AreContiguous(view.sizes, strides)
                              : view.strides == strides;
}

// Bytes of the caller that are written to: those of `tensor`'s destination or,
// where a storage goes as it is, one run for all of its tensors.
struct Extent {
  uintptr_t begin, end;
  int tensor;
  bool is_run;
};

// Whether two of its elements may be one: not if each stride steps over all
// that lies within the smaller ones.
bool MayOverlapItself(const at::Tensor& tensor) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.size(d) > 1) dims.emplace_back(tensor.stride(d), tensor.size(d));
  }
  std::sort(dims.begin(), dims.end());
  int64_t last = 0;  // offset of the last element so far
  for (auto [stride, size] : dims) {
    if (stride <= last) return true;
    last += stride * (size - 1);
  }
  return false;
}

using ByteSpan = std::pair<uint64_t, uint64_t>;  // begin, end

bool Cover(absl::InlinedVector<ByteSpan, 1> spans, uint64_t nbytes) {
  std::sort(spans.begin(), spans.end());
  uint64_t covered = 0;
  for (auto [begin, end] : spans) {
    if (begin > covered) return false;
    covered = std::max(covered, end);
  }
  return covered == nbytes;
}

}  // namespace

class DestinationPlanner {
 public:
  DestinationPlanner(const Manifest& manifest, Destination into)
      : manifest_(manifest), into_(std::move(into)) {}

  absl::StatusOr<DestinationPlan> Plan() {
    plan_.by_tensor.resize(manifest_.tensor_count());
    plan_.names.resize(manifest_.tensor_count());
    plan_.targets.resize(manifest_.storage_count());
    FERRY_RETURN_IF_ERROR(FindTensors());
    FERRY_RETURN_IF_ERROR(GroupByStorage());
    extents_.reserve(groups_.size());
    for (const Group& group : groups_) {
      FERRY_RETURN_IF_ERROR(PlanGroup(group));
    }
    FERRY_RETURN_IF_ERROR(CheckOverlaps());
    return std::move(plan_);
  }

 private:
  // The dense tensors on one storage of the message.
  struct Group {
    int storage;
    absl::InlinedVector<int, 1> tensors;
  };

  absl::Status FindTensors();
  absl::Status CheckFits(int tensor, const at::Tensor& destination) const;
  absl::Status GroupByStorage();
  absl::Status PlanGroup(const Group& group);
  StorageTarget TargetOf(const Group& group) const;
  absl::Status PlanCopy(int tensor);
  bool LiesAlike(int tensor) const;
  absl::Status CheckOverlaps();
  bool MeetAlike(const Extent& a, const Extent& b) const;
  bool AreApart(const Extent& a, const Extent& b) const;
  uint64_t RowBytes(const Extent& extent, uint64_t pitch) const;

  Manifest::View ViewOf(int tensor) const {
    return manifest_.view(manifest_.first_view(tensor));
  }

  const Manifest& manifest_;
  Destination into_;
  DestinationPlan plan_;
  std::vector<Group> groups_;
  std::vector<Extent> extents_;
};

absl::Status DestinationPlanner::FindTensors() {
  if (into_.names.size() != into_.tensors.size()) {
    return Invalid("has ", into_.names.size(), " names for ",
                   into_.tensors.size(), " tensors");
  }
  for (size_t i = 0; i < into_.names.size(); ++i) {
    int tensor = manifest_.FindTensor(into_.names[i]);
    if (tensor < 0) {
      return Invalid("\"", into_.names[i], "\" is not in the message");
    }
    if (plan_.by_tensor[tensor].defined()) {
      return Invalid("\"", into_.names[i], "\" is named twice");
    }
    FERRY_RETURN_IF_ERROR(CheckFits(tensor, into_.tensors[i]));
    plan_.by_tensor[tensor] = std::move(into_.tensors[i]);
    plan_.names[tensor] = std::move(into_.names[i]);
  }
  return absl::OkStatus();
}

absl::Status DestinationPlanner::CheckFits(
    int tensor, const at::Tensor& destination) const {
  auto name = [&] { return manifest_.Describe(tensor); };
  if (manifest_.kind(tensor) != TensorKind::kDense) {
    return Invalid(name(),
                   " is sparse or quantised in the message; only dense "
                   "tensors are received into the caller's");
  }
  if (!destination.defined() || destination.layout() != c10::kStrided ||
      destination.is_quantized() || destination.is_nested() ||
      destination.is_meta() || !destination.has_storage()) {
    return Invalid(name(), " is not a dense tensor with memory");
  }
  Manifest::View view = ViewOf(tensor);
  if (destination.scalar_type() != ScalarTypeOf(view.dtype)) {
    return Invalid(name(), " has dtype ",
                   c10::toString(destination.scalar_type()), ", is sent as ",
                   InfoOf(view.dtype).name);
  }
  if (SpanOf(destination.sizes()) != view.sizes) {
    return Invalid(name(), " has sizes [",
                   absl::StrJoin(destination.sizes(), ", "),
                   "], is sent with [", absl::StrJoin(view.sizes, ", "), "]");
  }
  const DeviceId& target =
      manifest_.buffer_target(manifest_.storage_buffer(view.storage));
  if (DeviceIdOf(destination.device()) != target) {
    return Invalid(name(), " is on ", destination.device().str(),
                   ", is sent to ", ToString(target));
  }
  absl::Status memory = CheckMemory(*destination.unsafeGetTensorImpl());
  return memory.ok() ? memory : Invalid(name(), " ", memory.message());
}

// All of an alias group or none: half of one would lose the aliasing.
absl::Status DestinationPlanner::GroupByStorage() {
  std::vector<int> group_of(manifest_.storage_count(), -1);
  groups_.reserve(std::min(into_.tensors.size(), group_of.size()));
  for (int t = 0; t < manifest_.tensor_count(); ++t) {
    if (!plan_.by_tensor[t].defined()) continue;
    int& group = group_of[ViewOf(t).storage];
    if (group < 0) {
      group = static_cast<int>(groups_.size());
      groups_.push_back({ViewOf(t).storage, {}});
    }
    groups_[group].tensors.push_back(t);
  }
  for (int t = 0; t < manifest_.tensor_count(); ++t) {
    if (plan_.by_tensor[t].defined()) continue;
    for (int v = manifest_.first_view(t); v < manifest_.first_view(t + 1);
         ++v) {
      int group = group_of[manifest_.view(v).storage];
      if (group >= 0) {
        return Invalid(manifest_.Describe(groups_[group].tensors[0]),
                       " shares memory with ", manifest_.Describe(t),
                       ", which has none; name both or neither");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status DestinationPlanner::PlanGroup(const Group& group) {
  StorageTarget target = TargetOf(group);
  if (target.storage) {
    auto begin = reinterpret_cast<uintptr_t>(target.storage.mutable_data()) +
                 target.begin;
    extents_.push_back({begin, begin + manifest_.storage_nbytes(group.storage),
                        group.tensors[0], /*is_run=*/true});
    plan_.targets[group.storage] = std::move(target);
    return absl::OkStatus();
  }
  for (int tensor : group.tensors) {
    if (plan_.by_tensor[tensor].numel() == 0) continue;
    FERRY_RETURN_IF_ERROR(PlanCopy(tensor));
  }
  return absl::OkStatus();
}

// Where the storage would be in the caller's memory, if the destinations lie in
// it as the tensors lie in the storage and the storage has no holes through
// which memory of others would be overwritten. Else nowhere.
StorageTarget DestinationPlanner::TargetOf(const Group& group) const {
  StorageTarget target;
  absl::InlinedVector<ByteSpan, 1> spans;
  for (int tensor : group.tensors) {
    const at::Tensor& destination = plan_.by_tensor[tensor];
    if (destination.numel() == 0) continue;
    Manifest::View view = ViewOf(tensor);
    const DtypeInfo& dtype = InfoOf(view.dtype);
    int64_t begin = (destination.storage_offset() - view.offset) *
                    static_cast<int64_t>(dtype.itemsize);
    if (begin < 0 || !LiesAlike(tensor)) return {};
    if (!target.storage) {
      target = {destination.storage(), static_cast<uint64_t>(begin)};
    }
    if (destination.storage().unsafeGetStorageImpl() !=
            target.storage.unsafeGetStorageImpl() ||
        static_cast<uint64_t>(begin) != target.begin) {
      return {};
    }
    if (!HasNoHoles(view.sizes, view.strides)) continue;
    uint64_t end;
    EndOf(dtype, view.offset, view.sizes, view.strides, &end);
    spans.push_back({static_cast<uint64_t>(view.offset) * dtype.itemsize, end});
  }
  bool covered =
      Cover(std::move(spans), manifest_.storage_nbytes(group.storage));
  return covered ? target : StorageTarget();
}

bool DestinationPlanner::LiesAlike(int tensor) const {
  const at::Tensor& destination = plan_.by_tensor[tensor];
  Manifest::View view = ViewOf(tensor);
  return destination.is_conj() == view.conj &&
         destination.is_neg() == view.neg && SameStrides(view, destination);
}

absl::Status DestinationPlanner::PlanCopy(int tensor) {
  const at::Tensor& destination = plan_.by_tensor[tensor];
  Manifest::View view = ViewOf(tensor);
  if (MayOverlapItself(destination) && !SameStrides(view, destination)) {
    return Invalid(manifest_.Describe(tensor),
                   " overlaps itself, or cannot be told not to, and cannot be "
                   "copied into");
  }
  const DtypeInfo& dtype = InfoOf(view.dtype);
  uint64_t end = 0;
  EndOf(dtype, destination.storage_offset(), view.sizes,
        SpanOf(destination.strides()), &end);
  auto data = reinterpret_cast<uintptr_t>(destination.storage().mutable_data());
  extents_.push_back({data + destination.storage_offset() * dtype.itemsize,
                      data + end, tensor, /*is_run=*/false});
  ++plan_.bounced;
  return absl::OkStatus();
}

absl::Status DestinationPlanner::CheckOverlaps() {
  std::sort(extents_.begin(), extents_.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < extents_.size(); ++i) {
    const Extent& a = extents_[i];
    for (size_t j = i + 1; j < extents_.size(); ++j) {
      const Extent& b = extents_[j];
      if (b.begin >= a.end) break;
      if (MeetAlike(a, b) || AreApart(a, b)) continue;
      return Invalid(manifest_.Describe(a.tensor), " and ",
                     manifest_.Describe(b.tensor),
                     " overlap in memory, or interleave in a way that cannot "
                     "be told from it, and do not do so in the message");
    }
  }
  return absl::OkStatus();
}

// Whether two destinations get the same bytes where they meet: they share
// memory just as what is sent into them does.
bool DestinationPlanner::MeetAlike(const Extent& a, const Extent& b) const {
  Manifest::View sent_a = ViewOf(a.tensor), sent_b = ViewOf(b.tensor);
  if (sent_a.storage != sent_b.storage) return false;
  if (LiesAlike(a.tensor) && LiesAlike(b.tensor)) {
    return a.begin - sent_a.offset * InfoOf(sent_a.dtype).itemsize ==
           b.begin - sent_b.offset * InfoOf(sent_b.dtype).itemsize;
  }
  const at::Tensor& into_a = plan_.by_tensor[a.tensor];
  const at::Tensor& into_b = plan_.by_tensor[b.tensor];
  return sent_a.dtype == sent_b.dtype && sent_a.conj == sent_b.conj &&
         sent_a.neg == sent_b.neg && sent_a.offset == sent_b.offset &&
         sent_a.sizes == sent_b.sizes && sent_a.strides == sent_b.strides &&
         a.begin == b.begin && into_a.strides() == into_b.strides() &&
         into_a.is_conj() == into_b.is_conj() &&
         into_a.is_neg() == into_b.is_neg();
}

// Whether two destinations that interleave have no byte in common, as columns
// of one matrix have none: each keeps to its own part of a row, whatever the
// row. `b` does not begin before `a`. True only if that is certain.
bool DestinationPlanner::AreApart(const Extent& a, const Extent& b) const {
  for (const Extent* with_rows : {&a, &b}) {
    if (with_rows->is_run) continue;
    const at::Tensor& into = plan_.by_tensor[with_rows->tensor];
    for (int64_t stride : into.strides()) {
      uint64_t pitch = static_cast<uint64_t>(stride) * into.itemsize();
      if (pitch == 0) continue;
      uint64_t at = (b.begin - a.begin) % pitch;
      if (at >= RowBytes(a, pitch) && at + RowBytes(b, pitch) <= pitch) {
        return true;
      }
    }
  }
  return false;
}

// How many bytes lie from the first to the last of a row, where all rows start
// whole multiples of `pitch` apart.
uint64_t DestinationPlanner::RowBytes(const Extent& extent,
                                      uint64_t pitch) const {
  if (extent.is_run) return extent.end - extent.begin;
  const at::Tensor& into = plan_.by_tensor[extent.tensor];
  uint64_t bytes = into.itemsize();
  for (int64_t d = 0; d < into.dim(); ++d) {
    uint64_t step = static_cast<uint64_t>(into.stride(d)) * into.itemsize();
    if (step % pitch != 0) bytes += (into.size(d) - 1) * step;
  }
  return bytes;
}

absl::StatusOr<DestinationPlan> PlanDestinations(const Manifest& manifest,
                                                 Destination into) {
  return DestinationPlanner(manifest, std::move(into)).Plan();
}

}  // namespace tensorferry
