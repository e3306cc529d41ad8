#include "serialization/manifest.h"

#include "absl/strings/str_cat.h"
#include "serialization/name_table.h"

namespace tensorferry {
namespace {

const DeviceId& HostDevice() {
  static const DeviceId* const cpu = new DeviceId;
  return *cpu;
}

}  // namespace

absl::string_view Manifest::tensor_name(int tensor) const {
  if (!named()) return "";
  return absl::string_view(columns_.names)
      .substr(first_name_[tensor], columns_.name_lengths[tensor]);
}

int Manifest::FindTensor(absl::string_view name) const {
  if (!named()) return -1;
  return FindName(name_table_, name,
                  [this](int tensor) { return tensor_name(tensor); });
}

absl::Span<const int64_t> Manifest::sizes(int tensor) const {
  if (!IsSparse(kind(tensor))) return view(first_view(tensor)).sizes;
  uint32_t sparse = extra_[tensor];
  return absl::MakeConstSpan(columns_.sparse_sizes)
      .subspan(first_sparse_dim_[sparse],
               static_cast<uint8_t>(columns_.sparse_ranks[sparse]));
}

std::string Manifest::Describe(int tensor) const {
  return DescribeTensor(tensor, tensor_name(tensor));
}

Manifest::StorageEntry Manifest::storage(int storage) const {
  StorageEntry entry;
  entry.buffer = static_cast<int>(columns_.storage_buffers[storage]);
  entry.source = buffer_source(entry.buffer);
  entry.target = buffer_target(entry.buffer);
  entry.nbytes = columns_.storage_nbytes[storage];
  entry.at = storage_at_[storage];
  return entry;
}

const DeviceId& Manifest::buffer_source(int buffer) const {
  if (static_cast<size_t>(buffer) == columns_.buffer_sources.size()) {
    return HostDevice();
  }
  return columns_.devices[columns_.buffer_sources[buffer]];
}

const DeviceId& Manifest::buffer_target(int buffer) const {
  if (static_cast<size_t>(buffer) == columns_.buffer_targets.size()) {
    return HostDevice();
  }
  return columns_.devices[columns_.buffer_targets[buffer]];
}

// Views are many, devices few: for each run of views on one (of one tensor, if
// names matter) the rules are asked once.
absl::Status CheckPlacement(const Manifest& manifest,
                            const Placement& placement) {
  const bool by_name = placement.HasNameRules();
  int64_t steps = kMatchSteps;
  const DeviceId* source = nullptr;
  absl::StatusOr<DeviceId> agreed;
  for (int tensor = 0; tensor < manifest.tensor_count(); ++tensor) {
    if (by_name) source = nullptr;
    for (int v = manifest.first_view(tensor);
         v < manifest.first_view(tensor + 1); ++v) {
      int buffer = manifest.storage_buffer(manifest.view(v).storage);
      const DeviceId& target = manifest.buffer_target(buffer);
      if (source != &manifest.buffer_source(buffer)) {
        source = &manifest.buffer_source(buffer);
        agreed =
            placement.TargetFor(*source, manifest.tensor_name(tensor), &steps);
      }
      if (absl::IsResourceExhausted(agreed.status())) return agreed.status();
      if (agreed.ok() && *agreed == target) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          manifest.Describe(tensor), " on ", ToString(*source), " is sent to ",
          ToString(target), ", but ",
          agreed.ok()
              ? absl::StrCat("the agreed placement is ", ToString(*agreed))
              : std::string(agreed.status().message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
