#ifndef TENSORFERRY_CONTROL_CAPABILITIES_H_
#define TENSORFERRY_CONTROL_CAPABILITIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/device_id.h"
#include "base/limits.h"
#include "base/peer_id.h"
#include "control/wire_version.h"

namespace tensorferry {

// One way to carry bytes between two device types that a process has compiled
// in: a transport and a channel over it.
struct PathCapability {
  std::string name;  // "unix/local": wire/channel
  std::string from_type = "cpu";
  std::string to_type = "cpu";
  // Higher is tried first; unique per device pair. The callee's decide.
  int priority = 0;
  // How far apart the two processes may be.
  enum class Reach { kAnywhere, kSameHost, kSameHostAndUser, kSameProcess };
  Reach reach = Reach::kAnywhere;
  std::string unusable;  // why this process cannot use it now; empty: it can
  // Whether a side opens the memory of the other's device: each has to have
  // both devices, by UUID.
  bool opens_device = false;
  // Whether this process takes it only if it is named: by the offer where it is
  // the caller, by its policy where it is the callee.
  bool only_if_named = false;

  friend bool operator==(const PathCapability&,
                         const PathCapability&) = default;
};

// What one process offers. Measured where it stands; sent to the other side.
struct Capabilities {
  PeerId peer;
  VersionRange wire_versions = kWireVersions;
  std::vector<DeviceInfo> devices;  // the CPU first
  std::vector<PathCapability> paths;
  std::string host_id;          // equal on two processes of one running host
  uint32_t user_id = 0;         // effective
  uint32_t process_id = 0;      // of its host; 0: not told
  int streams_per_device = 32;  // other than the CPU
  Limits limits;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CAPABILITIES_H_
