#ifndef TENSORFERRY_SERIALIZATION_MANIFEST_COLUMNS_H_
#define TENSORFERRY_SERIALIZATION_MANIFEST_COLUMNS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/device_id.h"

namespace tensorferry {

// How a tensor is made of views. The numbers are the wire format's.
enum class TensorKind : uint8_t {
  kDense = 0,
  kCoo = 1,
  kCsr = 2,
  kCsc = 3,
  kBsr = 4,
  kBsc = 5,
  kPerTensorAffine = 6,   // quantised, one scale
  kPerChannelAffine = 7,  // quantised, a scale for each slice along an axis
};
inline constexpr int kTensorKinds = 8;

// Bits of the wire format.
enum TensorFlag : uint8_t { kRequiresGrad = 1, kCoalesced = 2 };
enum ViewFlag : uint8_t { kConj = 1, kNeg = 2, kStrided = 4 };

// Storages that share a buffer start at multiples of this; part of the format,
// so that where they are need not be sent and cannot be a lie.
inline constexpr uint64_t kPackAlignment = 64;

// So that a device's number fits a byte.
inline constexpr size_t kMostDevices = 256;

// How many views a tensor of this kind has.
constexpr int ViewsOf(TensorKind kind) {
  if (kind == TensorKind::kCoo) return 2;
  if (kind == TensorKind::kDense || kind == TensorKind::kPerTensorAffine) {
    return 1;
  }
  return 3;
}
constexpr bool IsSparse(TensorKind kind) {
  return kind >= TensorKind::kCoo && kind <= TensorKind::kBsc;
}
constexpr bool IsQuantised(TensorKind kind) {
  return kind >= TensorKind::kPerTensorAffine;
}

// A manifest as it is sent: one entry per item in each column of its level.
// Indices are numbered by first use: the first storage that a view names is 0,
// and each next one is either known or the next number; likewise buffers and
// devices. So none can be left out, and equal messages have equal manifests.
struct ManifestColumns {
  uint32_t type = 0;
  int64_t id = 0;
  uint64_t payload_nbytes = 0;

  // By tensor. Without names both columns are empty.
  std::string kinds;         // TensorKind
  std::string tensor_flags;  // TensorFlag
  std::vector<uint32_t> name_lengths;
  std::string names;  // one after the other

  // By view, tensor after tensor.
  std::string dtypes;      // Dtype
  std::string view_flags;  // ViewFlag
  std::string ranks;
  std::vector<uint32_t> view_storages;
  std::vector<int64_t> offsets;  // in elements, from the storage's start
  std::vector<int64_t> sizes;    // ranks[v] for each view
  std::vector<int64_t> strides;  // ranks[v] for each view that is kStrided

  // By sparse tensor: the shape of the whole.
  std::string sparse_ranks;
  std::vector<int64_t> sparse_sizes;

  // By per-tensor quantised tensor.
  std::vector<double> scales;
  std::vector<int64_t> zero_points;
  // By per-channel quantised tensor.
  std::vector<uint32_t> axes;

  // By storage.
  std::vector<uint64_t> storage_nbytes;
  std::vector<uint32_t> storage_buffers;

  // By buffer, without the payload: into devices.
  std::vector<uint32_t> buffer_sources;
  std::vector<uint32_t> buffer_targets;

  std::vector<DeviceId> devices;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_MANIFEST_COLUMNS_H_
