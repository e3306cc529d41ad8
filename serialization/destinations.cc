#include "serialization/destinations.h"

#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "serialization/strided.h"
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

// Bytes of the caller that are written to, and for which tensor.
struct Extent {
  uintptr_t begin, end;
  int tensor;
};

}  // namespace

class DestinationPlanner {
 public:
  DestinationPlanner(const Manifest& manifest, const Destination& into)
      : manifest_(manifest), into_(into) {}

  absl::StatusOr<DestinationPlan> Plan() {
    plan_.by_tensor.resize(manifest_.tensor_count());
    plan_.copied.resize(manifest_.tensor_count());
    plan_.direct.resize(manifest_.storage_count());
    FERRY_RETURN_IF_ERROR(FindTensors());
    FERRY_RETURN_IF_ERROR(GroupByStorage());
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
    std::vector<int> tensors;
  };

  absl::Status FindTensors();
  absl::Status CheckFits(int tensor, const at::Tensor& destination) const;
  absl::Status GroupByStorage();
  absl::Status PlanGroup(const Group& group);
  std::byte* DirectBase(const Group& group) const;
  absl::Status PlanCopy(int tensor);
  void AddExtent(const at::Tensor& destination, int tensor);
  absl::Status CheckOverlaps();

  Manifest::View ViewOf(int tensor) const {
    return manifest_.view(manifest_.first_view(tensor));
  }

  const Manifest& manifest_;
  const Destination& into_;
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
    plan_.by_tensor[tensor] = into_.tensors[i];
  }
  return absl::OkStatus();
}

absl::Status DestinationPlanner::CheckFits(
    int tensor, const at::Tensor& destination) const {
  std::string name = manifest_.Describe(tensor);
  if (manifest_.kind(tensor) != TensorKind::kDense) {
    return Invalid(name,
                   " is sparse or quantised in the message; only dense "
                   "tensors are received into the caller's");
  }
  if (!destination.defined() || destination.layout() != c10::kStrided ||
      destination.is_quantized() || destination.is_nested() ||
      destination.is_meta() || !destination.has_storage()) {
    return Invalid(name, " is not a dense tensor with memory");
  }
  Manifest::View view = ViewOf(tensor);
  if (destination.scalar_type() != ScalarTypeOf(view.dtype)) {
    return Invalid(name, " has dtype ",
                   c10::toString(destination.scalar_type()), ", is sent as ",
                   InfoOf(view.dtype).name);
  }
  if (SpanOf(destination.sizes()) != view.sizes) {
    return Invalid(name, " has sizes [",
                   absl::StrJoin(destination.sizes(), ", "),
                   "], is sent with [", absl::StrJoin(view.sizes, ", "), "]");
  }
  const DeviceId& target =
      manifest_.buffer_target(manifest_.storage_buffer(view.storage));
  if (DeviceIdOf(destination.device()) != target) {
    return Invalid(name, " is on ", destination.device().str(), ", is sent to ",
                   ToString(target));
  }
  return absl::OkStatus();
}

// All of an alias group or none: half of one would lose the aliasing.
absl::Status DestinationPlanner::GroupByStorage() {
  std::vector<int> group_of(manifest_.storage_count(), -1);
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
  std::byte* base = DirectBase(group);
  bool packed =
      manifest_.buffer_storages(manifest_.storage_buffer(group.storage)) > 1;
  if (base != nullptr) {
    extents_.push_back({reinterpret_cast<uintptr_t>(base),
                        reinterpret_cast<uintptr_t>(base) +
                            manifest_.storage_nbytes(group.storage),
                        group.tensors[0]});
    if (!packed) {
      plan_.direct[group.storage] = base;
      return absl::OkStatus();
    }
  }
  for (int tensor : group.tensors) {
    if (plan_.by_tensor[tensor].numel() == 0) continue;
    FERRY_RETURN_IF_ERROR(PlanCopy(tensor));
    if (base == nullptr) {
      AddExtent(plan_.by_tensor[tensor], tensor);
      ++plan_.bounced;
    }
  }
  return absl::OkStatus();
}

// Where the storage's first byte would be in the caller's memory, if the
// destinations lie in it as the tensors lie in the storage and the storage has
// no holes through which memory of others would be overwritten. Else null.
std::byte* DestinationPlanner::DirectBase(const Group& group) const {
  uint64_t nbytes = manifest_.storage_nbytes(group.storage);
  if (nbytes == 0) return nullptr;
  const at::Tensor& first = plan_.by_tensor[group.tensors[0]];
  int64_t begin = 0;
  bool covered = false;
  for (int tensor : group.tensors) {
    const at::Tensor& destination = plan_.by_tensor[tensor];
    Manifest::View view = ViewOf(tensor);
    if (destination.storage().unsafeGetStorageImpl() !=
            first.storage().unsafeGetStorageImpl() ||
        destination.is_conj() != view.conj ||
        destination.is_neg() != view.neg || !SameStrides(view, destination)) {
      return nullptr;
    }
    int64_t begins = (destination.storage_offset() - view.offset) *
                     static_cast<int64_t>(destination.itemsize());
    if (tensor == group.tensors[0]) begin = begins;
    if (begins != begin) return nullptr;
    uint64_t end;
    EndOf(InfoOf(view.dtype), view.offset, view.sizes, view.strides, &end);
    covered |= view.offset == 0 && end == nbytes &&
               HasNoHoles(view.sizes, view.strides);
  }
  if (!covered || begin < 0) return nullptr;
  return static_cast<std::byte*>(first.storage().mutable_data()) + begin;
}

absl::Status DestinationPlanner::PlanCopy(int tensor) {
  const at::Tensor& destination = plan_.by_tensor[tensor];
  if (at::has_internal_overlap(destination) == at::MemOverlap::Yes) {
    return Invalid(manifest_.Describe(tensor),
                   " overlaps itself and cannot be copied into");
  }
  plan_.copied[tensor] = true;
  return absl::OkStatus();
}

void DestinationPlanner::AddExtent(const at::Tensor& destination, int tensor) {
  uint64_t begin = 0, end = 0;
  const DtypeInfo& dtype = InfoOf(ViewOf(tensor).dtype);
  begin = static_cast<uint64_t>(destination.storage_offset()) * dtype.itemsize;
  EndOf(dtype, destination.storage_offset(), SpanOf(destination.sizes()),
        SpanOf(destination.strides()), &end);
  auto data = reinterpret_cast<uintptr_t>(destination.storage().mutable_data());
  extents_.push_back({data + begin, data + end, tensor});
}

absl::Status DestinationPlanner::CheckOverlaps() {
  std::sort(extents_.begin(), extents_.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < extents_.size(); ++i) {
    if (extents_[i].begin >= extents_[i - 1].end) continue;
    return Invalid(manifest_.Describe(extents_[i - 1].tensor), " and ",
                   manifest_.Describe(extents_[i].tensor),
                   " overlap in memory, but do not share it in the message");
  }
  return absl::OkStatus();
}

absl::StatusOr<DestinationPlan> PlanDestinations(const Manifest& manifest,
                                                 const Destination& into) {
  return DestinationPlanner(manifest, into).Plan();
}

}  // namespace tensorferry
