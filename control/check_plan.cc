#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/carried_as.h"
#include "base/status_macros.h"
#include "control/needed_limits.h"
#include "control/negotiate.h"
#include "control/path_choice.h"
#include "control/stream_choice.h"

namespace tensorferry {
namespace {

template <class... Args>
absl::Status Differs(absl::string_view field, const Args&... why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the callee answered with a plan that the offer does not allow: ", field,
      ": ", why...));
}

absl::Status CheckPeers(const SessionPlan& plan, const Offer& offer,
                        const Capabilities& caller) {
  if (!(plan.caller == caller.peer)) {
    return Differs("caller", "\"", plan.caller.name, "\" with epoch ",
                   plan.caller.epoch, ", want \"", caller.peer.name,
                   "\" with epoch ", caller.peer.epoch);
  }
  if (!offer.expected_callee.empty() &&
      offer.expected_callee != plan.callee.name) {
    return Differs("callee.name", "\"", plan.callee.name, "\", want \"",
                   offer.expected_callee, "\"");
  }
  if (offer.expected_epoch && *offer.expected_epoch != plan.callee.epoch) {
    return Differs("callee.epoch", plan.callee.epoch, ", want ",
                   *offer.expected_epoch);
  }
  const VersionRange& versions = caller.wire_versions;
  if (plan.wire_version < versions.lowest ||
      plan.wire_version > versions.highest) {
    return Differs("wire_version", plan.wire_version, ", want ",
                   versions.lowest, "..", versions.highest);
  }
  return absl::OkStatus();
}

absl::Status CheckPlacements(const SessionPlan& plan, const Offer& offer) {
  if (!(plan.to_callee == offer.to_callee)) {
    return Differs("to_callee", "not the offer's rules");
  }
  Placement to_caller;
  if (offer.to_caller) {
    to_caller = *offer.to_caller;
  } else {
    FERRY_ASSIGN_OR_RETURN(to_caller, Invert(offer.to_callee));
  }
  if (!(plan.to_caller == to_caller)) {
    return Differs("to_caller", "not the offer's rules",
                   offer.to_caller ? "" : " inverted");
  }
  return absl::OkStatus();
}

absl::Status CheckStreams(const SessionPlan& plan, const Offer& offer,
                          const Capabilities& caller) {
  if (plan.caller_streams != ChooseStreams(offer.caller_streams, caller)) {
    return Differs("caller_streams", "not those of the offer");
  }
  std::set<DeviceId> seen;
  for (const StreamSpec& stream : plan.callee_streams) {
    if (stream.device.is_cpu() || !seen.insert(stream.device).second) {
      return Differs("callee_streams", ToString(stream.device),
                     " is the CPU or there twice");
    }
  }
  for (const StreamSpec& wanted : offer.callee_streams) {
    if (std::find(plan.callee_streams.begin(), plan.callee_streams.end(),
                  wanted) == plan.callee_streams.end()) {
      return Differs("callee_streams", "not the offer's stream for ",
                     ToString(wanted.device));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCarried(const SessionPlan& plan, const Capabilities& caller) {
  // What says how this side's own buffers cross is nobody else's to choose.
  if (plan.caller_carried != CarriedDevicesOf(caller)) {
    return Differs("caller_carried", "not as the caller's devices say");
  }
  for (const auto& [device, as] : plan.callee_carried) {
    if (MayBeCarriedAs(device, as)) continue;
    return Differs("callee_carried", ToString(device), " as ", ToString(as));
  }
  return absl::OkStatus();
}

// Whether the caller has `path` and can use it, either way.
bool CanUse(const Capabilities& caller, const std::string& path,
            const DeviceId& own_device, const DeviceId& other_device) {
  const std::string& own = own_device.type;
  const std::string& other = other_device.type;
  const PathCapability* out = FindPath(caller, path, own, other);
  const PathCapability* in = FindPath(caller, path, other, own);
  if (out == nullptr && in == nullptr) return false;
  return (out == nullptr || out->unusable.empty()) &&
         (in == nullptr || in->unusable.empty());
}

bool OnlyIfNamed(const Capabilities& caller, const std::string& path) {
  return std::any_of(caller.paths.begin(), caller.paths.end(),
                     [&](const PathCapability& own) {
                       return own.name == path && own.only_if_named;
                     });
}

absl::Status CheckChoice(const PathChoice& choice, const SessionPlan& plan,
                         const Offer& offer, const Capabilities& caller) {
  std::string pair = absl::StrCat(ToString(choice.caller_device), " - ",
                                  ToString(choice.callee_device));
  const DeviceInfo* const device = FindDevice(caller, choice.caller_device);
  if (device == nullptr) {
    return Differs("paths", pair, ": the caller has no such device");
  }
  DeviceId own = CarriedAs(choice.caller_device, plan.caller_carried);
  DeviceId other = CarriedAs(choice.callee_device, plan.callee_carried);
  if (choice.through_host) {
    if (own.is_cpu() && other.is_cpu()) {
      return Differs("paths", pair, " goes through host memory, where it is");
    }
    if (choice.ranked.empty()) {
      return Differs("paths", pair, " goes through host memory over no path");
    }
    if (!device->not_through_host.empty()) {
      return Differs("paths", pair, " goes through host memory, but ",
                     device->not_through_host);
    }
    own = other = DeviceId();
  }
  std::set<std::string> seen;
  for (const std::string& path : choice.ranked) {
    const bool allowed = offer.paths.empty() ? !OnlyIfNamed(caller, path)
                                             : Lists(offer.paths, path);
    if (!allowed || !CanUse(caller, path, own, other) ||
        !seen.insert(path).second) {
      return Differs("paths", pair, ": ", path, " is ",
                     !allowed ? "not one that the offer allows"
                     : seen.count(path) > 0
                         ? "there twice"
                         : "not one that the caller can use");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const Limits& limits, const Offer& offer,
                         const Capabilities& caller) {
  for (absl::string_view name : NeededButZero(limits)) {
    return Differs("limits", name,
                   " is 0, and nothing can be sent within that");
  }
  Limits bounds = caller.limits;
  if (offer.limits) bounds = Smaller(bounds, *offer.limits);
  if (!(Smaller(limits, bounds) == limits)) {
    return Differs("limits", "above those of the offer or the caller");
  }
  return absl::OkStatus();
}

absl::Status CheckPaths(const SessionPlan& plan, const Offer& offer,
                        const Capabilities& caller) {
  std::set<std::pair<DeviceId, DeviceId>> usable, seen;
  for (const PathChoice& choice : plan.paths) {
    std::pair<DeviceId, DeviceId> pair(choice.caller_device,
                                       choice.callee_device);
    if (!seen.insert(pair).second) {
      return Differs("paths", ToString(pair.first), " - ",
                     ToString(pair.second), " is there twice");
    }
    FERRY_RETURN_IF_ERROR(CheckChoice(choice, plan, offer, caller));
    if (!choice.ranked.empty()) usable.insert(std::move(pair));
  }
  std::set<std::pair<DeviceId, DeviceId>> needed = {{DeviceId(), DeviceId()}};
  for (const PlacementRule& rule : plan.to_callee.rules) {
    if (rule.kind != PlacementRule::Kind::kDevice) continue;
    needed.insert({rule.source, rule.target});
  }
  for (const PlacementRule& rule : plan.to_caller.rules) {
    if (rule.kind != PlacementRule::Kind::kDevice) continue;
    needed.insert({rule.target, rule.source});
  }
  for (const auto& [own, other] : needed) {
    if (usable.count({own, other}) > 0) continue;
    return Differs("paths", "none between ", ToString(own), " and ",
                   ToString(other));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlan(const SessionPlan& plan, const Offer& offer,
                       const Capabilities& caller) {
  FERRY_RETURN_IF_ERROR(CheckPeers(plan, offer, caller));
  FERRY_RETURN_IF_ERROR(CheckPlacements(plan, offer));
  FERRY_RETURN_IF_ERROR(CheckStreams(plan, offer, caller));
  FERRY_RETURN_IF_ERROR(CheckCarried(plan, caller));
  FERRY_RETURN_IF_ERROR(CheckPaths(plan, offer, caller));
  if (plan.digests != offer.digests) {
    return Differs("digests", plan.digests ? "on" : "off", ", want ",
                   offer.digests ? "on" : "off");
  }
  return CheckLimits(plan.limits, offer, caller);
}

}  // namespace tensorferry
