// Internal to control/: which paths can carry what a plan's rules place.
#ifndef TENSORFERRY_CONTROL_PATH_CHOICE_H_
#define TENSORFERRY_CONTROL_PATH_CHOICE_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/carried_as.h"
#include "control/capabilities.h"
#include "control/offer.h"
#include "control/session_plan.h"

namespace tensorferry {

// How the rules of a plan use a pair of devices (the caller's, the callee's).
struct PairUse {
  bool to_callee = false, to_caller = false;
  // A device rule, or the session itself, cannot do without; a pair that only
  // a name rule can use may stay without a path.
  bool needed = false;
};
using DevicePairs = std::map<std::pair<DeviceId, DeviceId>, PairUse>;

// The pairs that `placement` can use from the devices of `sender` to those of
// `receiver`, added to `pairs`. Devices that a side does not have are left out.
void AddPairs(const Placement& placement, bool to_callee,
              const Capabilities& sender, const Capabilities& receiver,
              DevicePairs* pairs);

// Ranks what both sides have by the callee's priority, and says of other paths
// that one of them has why they are not taken: of 16 at most, and in 256 bytes
// each. A pair that no path carries goes through host memory, if there is one
// between the CPUs and each side copies its device's; but not where the offer,
// or the policy if the offer names no path, names one that is the pair's own.
PathChoice ChoosePaths(const std::pair<DeviceId, DeviceId>& pair,
                       const PairUse& use, const Offer& offer,
                       const Capabilities& caller, const Capabilities& callee,
                       const Policy& policy);

// The path called `name` between two types of device; null: `peer` has none.
const PathCapability* FindPath(const Capabilities& peer,
                               const std::string& name,
                               const std::string& from_type,
                               const std::string& to_type);

bool Lists(const std::vector<std::string>& names, const std::string& path);

// Null: it declares none such.
const DeviceInfo* FindDevice(const Capabilities& peer, const DeviceId& device);
bool HasDevice(const Capabilities& peer, const DeviceId& device);

CarriedDevices CarriedDevicesOf(const Capabilities& peer);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_PATH_CHOICE_H_
