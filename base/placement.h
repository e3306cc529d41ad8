#ifndef TENSORFERRY_BASE_PLACEMENT_H_
#define TENSORFERRY_BASE_PLACEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/device_id.h"

namespace tensorferry {

// Matches `text` against `glob`: '*' any run of characters, '?' any one.
bool GlobMatches(absl::string_view glob, absl::string_view text);

// The work that matching the names of one message against rules may take, as
// both come from a peer: a step for each rule and each character looked at.
inline constexpr int64_t kMatchSteps = int64_t{1} << 26;

// As above, taking from `steps`. False once none is left, and `steps` negative.
bool GlobMatches(absl::string_view glob, absl::string_view text,
                 int64_t* steps);

// One rule: what it applies to (a source device, or tensors by name) and where
// that goes on the receiving side.
struct PlacementRule {
  enum class Kind { kDevice, kName };
  Kind kind = Kind::kDevice;
  DeviceId source;        // kDevice
  std::string name_glob;  // kName
  DeviceId target;

  friend bool operator==(const PlacementRule&, const PlacementRule&) = default;
};

// Ordered rules of one direction, evaluated by the sender per storage and
// checked again by the receiver. The first match wins. Name rules match named
// tensors only. A CPU storage that no rule matches goes to the receiver's CPU;
// any other storage without a rule has no target.
struct Placement {
  std::vector<PlacementRule> rules;

  // The target for a storage on `source` under a tensor called `name` (empty
  // for an unnamed one). Takes what it needs from `steps`, which a message
  // starts with kMatchSteps.
  // FAILED_PRECONDITION: no rule covers a device that is not the CPU; names
  // the device and the rule to add.
  // RESOURCE_EXHAUSTED: no steps are left.
  absl::StatusOr<DeviceId> TargetFor(const DeviceId& source,
                                     absl::string_view name,
                                     int64_t* steps) const;

  // Whether targets depend on names, and not on devices alone.
  bool HasNameRules() const;

  friend bool operator==(const Placement&, const Placement&) = default;
};

// Parses "SRC=DST". SRC is a device if it is "cpu", "cuda" or of the form
// type:index ("cuda:0=cpu"); anything else, and all that carries the prefix
// "name:", is a glob over tensor names ("encoder.*=cuda:1").
// INVALID_ARGUMENT: no '=', an empty side, DST is not a device, or SRC looks
// like a device but is none ("cuda:200").
absl::StatusOr<PlacementRule> ParsePlacementRule(absl::string_view text);
// What ParsePlacementRule reads back as the same rule.
std::string ToString(const PlacementRule& rule);

// The reverse of a placement that consists of one-to-one device rules. A rule
// that never matches, because an earlier one has its source, is left out.
// FAILED_PRECONDITION: a name rule, or two sources with one target; says which
// and that the reverse direction must be named in the offer.
absl::StatusOr<Placement> Invert(const Placement& placement);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_PLACEMENT_H_
