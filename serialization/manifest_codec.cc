#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "serialization/manifest.h"
#include "serialization/wire.h"

namespace tensorferry {
namespace {

constexpr uint32_t kVersion = 1;

// Those of manifest.proto.
enum Field : int {
  kType = 2,
  kId = 3,
  kPayloadNbytes = 4,
  kKinds = 5,
  kTensorFlags = 6,
  kNameLengths = 7,
  kNames = 8,
  kDtypes = 9,
  kViewFlags = 10,
  kRanks = 11,
  kViewStorages = 12,
  kOffsets = 13,
  kSizes = 14,
  kStrides = 15,
  kSparseRanks = 16,
  kSparseSizes = 17,
  kScales = 18,
  kZeroPoints = 19,
  kAxes = 20,
  kStorageNbytes = 21,
  kStorageBuffers = 22,
  kBufferSources = 23,
  kBufferTargets = 24,
  kDevices = 25,
  kFormatVersion = 31,
};

template <class... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", parts...));
}

template <class Column>
bool AllZero(const Column& column) {
  for (auto entry : column) {
    if (entry != 0) return false;
  }
  return true;
}

std::string JoinDevices(const std::vector<DeviceId>& devices) {
  return absl::StrJoin(devices, ",", [](std::string* out, const DeviceId& d) {
    absl::StrAppend(out, ToString(d));
  });
}

// Reads devices as they are written, in no other spelling.
absl::Status SplitDevices(absl::string_view text,
                          std::vector<DeviceId>* devices) {
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    FERRY_ASSIGN_OR_RETURN(DeviceId device, ParseDeviceId(part));
    if (ToString(device) != part) {
      return Invalid("device \"", part, "\" is not in its short form, \"",
                     ToString(device), "\"");
    }
    if (devices->size() == kMostDevices) {
      return Invalid("more than ", kMostDevices, " devices");
    }
    devices->push_back(std::move(device));
  }
  return absl::OkStatus();
}

// Reads fields in ascending order, each at most once, as they are written.
class ManifestReader {
 public:
  ManifestReader(absl::string_view bytes, const Limits& limits)
      : bytes_(bytes), limits_(limits) {}

  absl::StatusOr<ManifestColumns> Read() {
    WireReader reader(bytes_);
    uint64_t last = 0;
    while (!reader.done()) {
      uint64_t field;
      bool is_bytes;
      if (!reader.Field(&field, &is_bytes)) return NotAManifest();
      if (field <= last) return Invalid("field ", field, " after ", last);
      last = field;
      if (is_bytes) {
        absl::string_view bytes;
        if (!reader.Bytes(&bytes)) return NotAManifest();
        FERRY_RETURN_IF_ERROR(TakeColumn(field, bytes));
      } else {
        uint64_t value;
        if (!reader.Varint(&value)) return NotAManifest();
        FERRY_RETURN_IF_ERROR(TakeNumber(field, value));
      }
    }
    if (version_ != kVersion) {
      return Invalid("format version ", version_, "; this process reads ",
                     kVersion);
    }
    FillWhatWasLeftOut();
    return std::move(c_);
  }

 private:
  absl::Status NotAManifest() const {
    return Invalid(bytes_.size(), " bytes that are not a manifest");
  }
  static absl::Status Unknown(uint64_t field) {
    return Invalid("field ", field, ", which version ", kVersion, " lacks");
  }

  absl::Status TakeNumber(uint64_t field, uint64_t value);
  absl::Status TakeColumn(uint64_t field, absl::string_view bytes);
  absl::Status CheckCount(uint64_t field, absl::string_view bytes) const;
  bool Unpacked(uint64_t field, absl::string_view bytes);
  std::string* ByteColumn(uint64_t field);
  void FillWhatWasLeftOut();

  absl::string_view bytes_;
  const Limits& limits_;
  uint64_t version_ = 0;
  ManifestColumns c_;
};

absl::Status ManifestReader::TakeNumber(uint64_t field, uint64_t value) {
  switch (field) {
    case kType:
      c_.type = static_cast<uint32_t>(value);
      return value == c_.type ? absl::OkStatus() : NotAManifest();
    case kId:
      c_.id = UnZigZag(value);
      return absl::OkStatus();
    case kPayloadNbytes:
      c_.payload_nbytes = value;
      return absl::OkStatus();
    case kFormatVersion:
      version_ = value;
      return absl::OkStatus();
    default:
      return Unknown(field);
  }
}

absl::Status ManifestReader::TakeColumn(uint64_t field,
                                        absl::string_view bytes) {
  if (field == kDevices) return SplitDevices(bytes, &c_.devices);
  if (std::string* column = ByteColumn(field); column != nullptr) {
    column->assign(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  if (field < kType || field > kDevices) return Unknown(field);
  FERRY_RETURN_IF_ERROR(CheckCount(field, bytes));
  return Unpacked(field, bytes) ? absl::OkStatus() : NotAManifest();
}

// Before memory is taken for a column: an entry of one byte becomes eight.
absl::Status ManifestReader::CheckCount(uint64_t field,
                                        absl::string_view bytes) const {
  uint64_t entries =
      uint64_t{3} * limits_.tensors;  // views, and less of others
  if (field == kSizes || field == kStrides || field == kSparseSizes) {
    entries *= limits_.rank;
  }
  if (bytes.size() <= entries ||
      (field == kScales ? bytes.size() / 8 : CountVarints(bytes)) <= entries) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("manifest: field ", field, " has more than ", entries,
                   " entries, over the limit tensors of ", limits_.tensors));
}

std::string* ManifestReader::ByteColumn(uint64_t field) {
  switch (field) {
    case kKinds:
      return &c_.kinds;
    case kTensorFlags:
      return &c_.tensor_flags;
    case kNames:
      return &c_.names;
    case kDtypes:
      return &c_.dtypes;
    case kViewFlags:
      return &c_.view_flags;
    case kRanks:
      return &c_.ranks;
    case kSparseRanks:
      return &c_.sparse_ranks;
    default:
      return nullptr;
  }
}

bool ManifestReader::Unpacked(uint64_t field, absl::string_view bytes) {
  switch (field) {
    case kNameLengths:
      return Unpack(bytes, &c_.name_lengths);
    case kViewStorages:
      return Unpack(bytes, &c_.view_storages);
    case kOffsets:
      return Unpack(bytes, &c_.offsets);
    case kSizes:
      return Unpack(bytes, &c_.sizes);
    case kStrides:
      return Unpack(bytes, &c_.strides);
    case kSparseSizes:
      return Unpack(bytes, &c_.sparse_sizes);
    case kScales:
      return UnpackDoubles(bytes, &c_.scales);
    case kZeroPoints:
      return UnpackSigned(bytes, &c_.zero_points);
    case kAxes:
      return Unpack(bytes, &c_.axes);
    case kStorageNbytes:
      return Unpack(bytes, &c_.storage_nbytes);
    case kStorageBuffers:
      return Unpack(bytes, &c_.storage_buffers);
    case kBufferSources:
      return Unpack(bytes, &c_.buffer_sources);
    case kBufferTargets:
      return Unpack(bytes, &c_.buffer_targets);
    default:
      return false;
  }
}

void ManifestReader::FillWhatWasLeftOut() {
  if (c_.tensor_flags.empty()) c_.tensor_flags.resize(c_.kinds.size());
  if (c_.view_flags.empty()) c_.view_flags.resize(c_.dtypes.size());
  if (c_.offsets.empty()) c_.offsets.resize(c_.dtypes.size());
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  const ManifestColumns& c = manifest.columns();
  WireWriter out(c.names.size() + 32 * c.kinds.size() + 256);
  out.Varint(kType, c.type);
  out.Varint(kId, ZigZag(c.id));
  out.Varint(kPayloadNbytes, c.payload_nbytes);
  out.Bytes(kKinds, c.kinds);
  if (!AllZero(c.tensor_flags)) out.Bytes(kTensorFlags, c.tensor_flags);
  out.Packed(kNameLengths, c.name_lengths);
  out.Bytes(kNames, c.names);
  out.Bytes(kDtypes, c.dtypes);
  if (!AllZero(c.view_flags)) out.Bytes(kViewFlags, c.view_flags);
  out.Bytes(kRanks, c.ranks);
  out.Packed(kViewStorages, c.view_storages);
  if (!AllZero(c.offsets)) out.Packed(kOffsets, c.offsets);
  out.Packed(kSizes, c.sizes);
  out.Packed(kStrides, c.strides);
  out.Bytes(kSparseRanks, c.sparse_ranks);
  out.Packed(kSparseSizes, c.sparse_sizes);
  out.PackedDoubles(kScales, c.scales);
  out.PackedSigned(kZeroPoints, c.zero_points);
  out.Packed(kAxes, c.axes);
  out.Packed(kStorageNbytes, c.storage_nbytes);
  out.Packed(kStorageBuffers, c.storage_buffers);
  out.Packed(kBufferSources, c.buffer_sources);
  out.Packed(kBufferTargets, c.buffer_targets);
  out.Bytes(kDevices, JoinDevices(c.devices));
  out.Varint(kFormatVersion, kVersion);
  return out.Take();
}

absl::StatusOr<Manifest> DecodeManifest(absl::string_view bytes,
                                        const Limits& limits) {
  if (bytes.size() > limits.manifest_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "manifest: ", bytes.size(), " bytes, over the limit manifest_bytes of ",
        limits.manifest_bytes));
  }
  try {
    FERRY_ASSIGN_OR_RETURN(ManifestColumns columns,
                           ManifestReader(bytes, limits).Read());
    return Manifest::Create(std::move(columns), limits);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "manifest: no memory left for one of ", bytes.size(), " bytes"));
  }
}

}  // namespace tensorferry
