#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "serialization/manifest.h"
#include "serialization/manifest.pb.h"

namespace tensorferry {
namespace {

constexpr uint32_t kVersion = 1;

template <class Column>
bool AllZero(const Column& column) {
  return std::all_of(column.begin(), column.end(),
                     [](auto entry) { return entry == 0; });
}

template <class From, class To>
void Copy(const From& from, To* to) {
  to->Reserve(static_cast<int>(from.size()));
  to->Add(from.begin(), from.end());
}

template <class From, class To>
void Take(const From& from, std::vector<To>* to) {
  to->assign(from.begin(), from.end());
}

std::string JoinDevices(const std::vector<DeviceId>& devices) {
  return absl::StrJoin(devices, ",", [](std::string* out, const DeviceId& d) {
    absl::StrAppend(out, ToString(d));
  });
}

absl::StatusOr<std::vector<DeviceId>> SplitDevices(absl::string_view text) {
  std::vector<DeviceId> devices;
  if (text.empty()) return devices;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    FERRY_ASSIGN_OR_RETURN(DeviceId device, ParseDeviceId(part));
    // A process has few devices; and a second spelling of one is a second
    // encoding of the same manifest.
    if (devices.size() == 256 || ToString(device) != part) {
      return absl::InvalidArgumentError(
          absl::StrCat("manifest: device ", devices.size(), " is \"", part,
                       devices.size() == 256 ? "\", one too many"
                                             : "\", not in its short form"));
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

// A column that may be left out when all of it is zero.
template <class Column>
void FillIfLeftOut(size_t entries, Column* column) {
  if (column->empty()) column->resize(entries, 0);
}

absl::StatusOr<ManifestColumns> ColumnsOf(wire::v1::Manifest& wire) {
  ManifestColumns c;
  c.type = wire.type();
  c.id = wire.id();
  c.payload_nbytes = wire.payload_nbytes();
  c.kinds = std::move(*wire.mutable_kinds());
  c.tensor_flags = std::move(*wire.mutable_tensor_flags());
  FillIfLeftOut(c.kinds.size(), &c.tensor_flags);
  Take(wire.name_lengths(), &c.name_lengths);
  c.names = std::move(*wire.mutable_names());
  c.dtypes = std::move(*wire.mutable_dtypes());
  c.view_flags = std::move(*wire.mutable_view_flags());
  FillIfLeftOut(c.dtypes.size(), &c.view_flags);
  c.ranks = std::move(*wire.mutable_ranks());
  Take(wire.view_storages(), &c.view_storages);
  Take(wire.offsets(), &c.offsets);
  FillIfLeftOut(c.dtypes.size(), &c.offsets);
  Take(wire.sizes(), &c.sizes);
  Take(wire.strides(), &c.strides);
  c.sparse_ranks = std::move(*wire.mutable_sparse_ranks());
  Take(wire.sparse_sizes(), &c.sparse_sizes);
  Take(wire.scales(), &c.scales);
  Take(wire.zero_points(), &c.zero_points);
  Take(wire.axes(), &c.axes);
  Take(wire.storage_nbytes(), &c.storage_nbytes);
  Take(wire.storage_buffers(), &c.storage_buffers);
  Take(wire.buffer_sources(), &c.buffer_sources);
  Take(wire.buffer_targets(), &c.buffer_targets);
  FERRY_ASSIGN_OR_RETURN(c.devices, SplitDevices(wire.devices()));
  return c;
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  const ManifestColumns& c = manifest.columns();
  wire::v1::Manifest wire;
  wire.set_version(kVersion);
  wire.set_type(c.type);
  wire.set_id(c.id);
  wire.set_payload_nbytes(c.payload_nbytes);
  wire.set_kinds(c.kinds);
  if (!AllZero(c.tensor_flags)) wire.set_tensor_flags(c.tensor_flags);
  Copy(c.name_lengths, wire.mutable_name_lengths());
  wire.set_names(c.names);
  wire.set_dtypes(c.dtypes);
  if (!AllZero(c.view_flags)) wire.set_view_flags(c.view_flags);
  wire.set_ranks(c.ranks);
  Copy(c.view_storages, wire.mutable_view_storages());
  if (!AllZero(c.offsets)) Copy(c.offsets, wire.mutable_offsets());
  Copy(c.sizes, wire.mutable_sizes());
  Copy(c.strides, wire.mutable_strides());
  wire.set_sparse_ranks(c.sparse_ranks);
  Copy(c.sparse_sizes, wire.mutable_sparse_sizes());
  Copy(c.scales, wire.mutable_scales());
  Copy(c.zero_points, wire.mutable_zero_points());
  Copy(c.axes, wire.mutable_axes());
  Copy(c.storage_nbytes, wire.mutable_storage_nbytes());
  Copy(c.storage_buffers, wire.mutable_storage_buffers());
  Copy(c.buffer_sources, wire.mutable_buffer_sources());
  Copy(c.buffer_targets, wire.mutable_buffer_targets());
  wire.set_devices(JoinDevices(c.devices));
  return wire.SerializeAsString();
}

absl::StatusOr<Manifest> DecodeManifest(absl::string_view bytes,
                                        const Limits& limits) {
  if (bytes.size() > limits.manifest_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "manifest: ", bytes.size(), " bytes, over the limit manifest_bytes of ",
        limits.manifest_bytes));
  }
  wire::v1::Manifest wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "manifest: ", bytes.size(), " bytes that are not a manifest"));
  }
  if (wire.version() != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest: format version ", wire.version(),
                     "; this process reads ", kVersion));
  }
  if (!wire.GetReflection()->GetUnknownFields(wire).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest: a field that version ", kVersion, " lacks"));
  }
  FERRY_ASSIGN_OR_RETURN(ManifestColumns columns, ColumnsOf(wire));
  return Manifest::Create(std::move(columns), limits);
}

}  // namespace tensorferry
