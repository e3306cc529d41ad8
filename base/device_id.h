#ifndef TENSORFERRY_BASE_DEVICE_ID_H_
#define TENSORFERRY_BASE_DEVICE_ID_H_

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// A device as the two peers speak of it: the type's lower-case name and an
// index. The host is {"cpu", 0} and is written "cpu"; all others carry their
// index: "cuda:1". Rooms that know libtorch convert from and to c10::Device.
struct DeviceId {
  std::string type = "cpu";
  int index = 0;

  bool is_cpu() const { return type == "cpu"; }

  friend bool operator==(const DeviceId& a, const DeviceId& b) {
    return a.type == b.type && a.index == b.index;
  }
  friend bool operator!=(const DeviceId& a, const DeviceId& b) {
    return !(a == b);
  }
  friend bool operator<(const DeviceId& a, const DeviceId& b) {
    return std::tie(a.type, a.index) < std::tie(b.type, b.index);
  }
  template <typename H>
  friend H AbslHashValue(H h, const DeviceId& d) {
    return H::combine(std::move(h), d.type, d.index);
  }
};

// "cpu" or "cuda:1".
std::string ToString(const DeviceId& device);

// Accepts "cpu", "cpu:0", "cuda" (index 0) and "cuda:7".
// INVALID_ARGUMENT: empty, longer than 32 bytes, a type that is not
// [a-z][a-z0-9_]*, an index that is not 0..127, or a cpu index other than 0.
absl::StatusOr<DeviceId> ParseDeviceId(absl::string_view text);

// OK if `device` could have come out of ParseDeviceId; for values that a peer
// sent.
absl::Status ValidateDeviceId(const DeviceId& device);

// What a process reports of one of its devices.
struct DeviceInfo {
  DeviceId id;
  std::string name;          // "NVIDIA H200"; empty when unknown
  std::string uuid;          // names the device across processes; may be empty
  uint64_t total_bytes = 0;  // 0 when unknown
  uint64_t free_bytes = 0;   // at the time of asking; 0 when unknown
  // The devices of its type whose memory it can use directly: rising indices.
  std::vector<int> peers;
  // Versions of what drives it, as people write them: "13.2"; empty when
  // unknown.
  std::string driver;
  std::string runtime;
  // Of a type that is neither "cpu" nor "cuda" and whose memory CUDA knows: the
  // GPU that it lies on, and as which it crosses. None: it crosses as memory of
  // the host.
  std::optional<DeviceId> carried_as;
  // Of one that crosses as a GPU's: why its memory is not copied to the host's
  // and from it; empty: it is.
  std::string not_through_host;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_DEVICE_ID_H_
