#include "control/negotiate.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/carried_as.h"
#include "control/needed_limits.h"
#include "control/path_choice.h"
#include "control/stream_choice.h"
#include "control/text.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxPairs = 1024;
constexpr size_t kMaxRefusals = 4096;  // of all pairs
constexpr size_t kMaxObjectionsInError = 64;
constexpr size_t kMaxReasonBytes = 256;  // of a peer's

std::string ToString(const VersionRange& range) {
  return absl::StrCat(range.lowest, "..", range.highest);
}

std::string DeviceList(const std::vector<DeviceInfo>& devices) {
  std::vector<std::string> ids;
  for (const DeviceInfo& device : devices) ids.push_back(ToString(device.id));
  return Names(ids);
}

// Why `peer` can use no device of `type`, as far as it says; empty: it has one,
// or does not say.
std::string WhyNone(const Capabilities& peer, const std::string& type) {
  for (const DeviceInfo& device : peer.devices) {
    if (device.id.type == type) return "";
  }
  for (const PathCapability& path : peer.paths) {
    const bool of_type = path.from_type == type || path.to_type == type;
    if (of_type && !path.unusable.empty()) return path.unusable;
  }
  return "";
}

// What `peer` has instead of `device`.
std::string Instead(const Capabilities& peer, const DeviceId& device) {
  const std::string why = Cut(WhyNone(peer, device.type), kMaxReasonBytes);
  return absl::StrCat("it has ", DeviceList(peer.devices),
                      why.empty() ? "" : ": ", why);
}

// "npu:0", or, where that does not say which paths it needs, "npu:0 (which
// crosses as cuda:1)".
std::string DeviceAndCrossing(const DeviceId& device, const DeviceId& as) {
  if (as == device) return ToString(device);
  return absl::StrCat(ToString(device), " (which crosses as ", ToString(as),
                      ")");
}

// One of the two peers, as messages name it.
struct Side {
  std::string name;  // caller "alice"
  const Capabilities& has;
};

// One offer being answered. The checks run in the order of their codes, so
// that the first objection's code is the answer's.
class Negotiation {
 public:
  Negotiation(const Offer& offer, const Capabilities& caller,
              const Capabilities& callee, const Policy& policy)
      : offer_(offer),
        policy_(policy),
        caller_{absl::StrCat("caller \"", caller.peer.name, "\""), caller},
        callee_{absl::StrCat("callee \"", callee.peer.name, "\""), callee} {}

  Explanation Run() && {
    FillPlan();
    CheckIdentity();
    CheckVersions();
    CheckArguments();
    CheckPolicy();
    CheckLimits();
    CheckPaths();
    return std::move(result_);
  }

 private:
  template <class... Args>
  void Object(absl::StatusCode code, const Args&... why) {
    result_.objections.push_back(absl::Status(code, absl::StrCat(why...)));
  }
  template <class... Args>
  void Invalid(const Args&... why) {
    Object(absl::StatusCode::kInvalidArgument, why...);
  }

  void FillPlan();
  // FAILED_PRECONDITION.
  void CheckIdentity();
  void CheckVersions();
  // INVALID_ARGUMENT.
  void CheckArguments();
  void CheckDevices(const Side& side);
  void CheckPathCapabilities(const Side& side);
  void CheckRules(absl::string_view field, const Placement& placement,
                  const Side& sender, const Side& receiver);
  void CheckReverse();
  void CheckStreams(absl::string_view field,
                    const std::vector<StreamSpec>& streams, const Side& side);
  // PERMISSION_DENIED.
  void CheckPolicy();
  // RESOURCE_EXHAUSTED.
  void CheckLimits();
  void CheckStreamCount(absl::string_view field,
                        const std::vector<StreamSpec>& streams,
                        const Side& side);
  // FAILED_PRECONDITION, but RESOURCE_EXHAUSTED for more pairs than we bear.
  void CheckPaths();
  void CheckNameRules(absl::string_view field, const Placement& placement,
                      bool to_callee, const Side& sender);
  void ObjectToPair(const PathChoice& choice);

  bool Permits(const DeviceId& device) const {
    return policy_.devices.empty() ||
           std::find(policy_.devices.begin(), policy_.devices.end(), device) !=
               policy_.devices.end();
  }

  const Offer& offer_;
  const Policy& policy_;
  const Side caller_, callee_;
  absl::Status reverse_;  // why to_callee could not be inverted
  Explanation result_;
};

void Negotiation::FillPlan() {
  SessionPlan& plan = result_.plan;
  plan.caller = caller_.has.peer;
  plan.callee = callee_.has.peer;
  plan.to_callee = offer_.to_callee;
  if (offer_.to_caller) {
    plan.to_caller = *offer_.to_caller;
  } else if (auto inverse = Invert(offer_.to_callee); inverse.ok()) {
    plan.to_caller = *std::move(inverse);
  } else {
    reverse_ = inverse.status();
  }
  plan.caller_streams = ChooseStreams(offer_.caller_streams, caller_.has);
  plan.callee_streams = ChooseStreams(offer_.callee_streams, callee_.has);
  plan.caller_carried = CarriedDevicesOf(caller_.has);
  plan.callee_carried = CarriedDevicesOf(callee_.has);
  plan.digests = offer_.digests;
  plan.limits = Smaller(caller_.has.limits, callee_.has.limits);
  for (const std::optional<Limits>& bounds : {offer_.limits, policy_.limits}) {
    if (bounds) plan.limits = Smaller(plan.limits, *bounds);
  }
}

void Negotiation::CheckIdentity() {
  const PeerId& callee = callee_.has.peer;
  if (!offer_.expected_callee.empty() &&
      offer_.expected_callee != callee.name) {
    Object(absl::StatusCode::kFailedPrecondition, "offer.expected_callee: \"",
           offer_.expected_callee, "\" was expected, but ", callee_.name,
           " answered; check the address");
  }
  if (offer_.expected_epoch && *offer_.expected_epoch != callee.epoch) {
    Object(absl::StatusCode::kFailedPrecondition,
           "offer.expected_epoch: ", callee_.name, " was expected with epoch ",
           *offer_.expected_epoch, ", but has epoch ", callee.epoch,
           ": it was restarted; open a new session without the old epoch");
  }
}

void Negotiation::CheckVersions() {
  const VersionRange& ours = callee_.has.wire_versions;
  const VersionRange& theirs = caller_.has.wire_versions;
  int version = std::min(ours.highest, theirs.highest);
  bool common = version >= std::max(ours.lowest, theirs.lowest);
  result_.plan.wire_version = common ? version : 0;
  if (common) return;
  Object(absl::StatusCode::kFailedPrecondition,
         "no wire version in common: ", caller_.name, " speaks ",
         ToString(theirs), ", ", callee_.name, " speaks ", ToString(ours),
         "; update the older one");
}

void Negotiation::CheckArguments() {
  for (const Side* side : {&caller_, &callee_}) {
    CheckDevices(*side);
    CheckPathCapabilities(*side);
  }
  CheckRules("offer.to_callee", offer_.to_callee, caller_, callee_);
  if (offer_.to_caller) {
    CheckRules("offer.to_caller", *offer_.to_caller, callee_, caller_);
  } else {
    CheckReverse();
  }
  CheckStreams("offer.caller_streams", offer_.caller_streams, caller_);
  CheckStreams("offer.callee_streams", offer_.callee_streams, callee_);
}

void Negotiation::CheckDevices(const Side& side) {
  const std::vector<DeviceInfo>& devices = side.has.devices;
  if (devices.empty() || !(devices.front().id == DeviceId())) {
    Invalid(side.name, " does not declare cpu as its first device, but [",
            DeviceList(devices), "]; every peer has one");
  }
  std::set<DeviceId> seen;
  for (const DeviceInfo& device : devices) {
    absl::Status valid = ValidateDeviceId(device.id);
    if (!valid.ok()) {
      Invalid(side.name, " declares an invalid device: ", valid.message());
    } else if (!seen.insert(device.id).second) {
      Invalid(side.name, " declares ", ToString(device.id),
              " twice; declare each device once");
    }
    const std::optional<DeviceId>& as = device.carried_as;
    if (!as || (MayBeCarriedAs(device.id, *as) && HasDevice(side.has, *as))) {
      continue;
    }
    Invalid(side.name, " declares that ", ToString(device.id),
            " is carried as ", ToString(*as),
            "; only a device that is neither "
            "cpu nor cuda can be, and as a cuda device of its peer's");
  }
}

void Negotiation::CheckPathCapabilities(const Side& side) {
  std::set<std::tuple<std::string, std::string, std::string>> names;
  std::map<std::tuple<std::string, std::string, int>, std::string> priorities;
  for (const PathCapability& path : side.has.paths) {
    std::string what =
        absl::StrCat(side.name, " declares path ", path.name, " for ",
                     path.from_type, " -> ", path.to_type);
    if (!names.emplace(path.name, path.from_type, path.to_type).second) {
      Invalid(what, " twice; declare it once");
      continue;
    }
    auto [other, unique] = priorities.try_emplace(
        {path.from_type, path.to_type, path.priority}, path.name);
    if (!unique) {
      Invalid(what, " with priority ", path.priority, ", as ", other->second,
              "; priorities of one pair must differ");
    }
  }
}

void Negotiation::CheckRules(absl::string_view field,
                             const Placement& placement, const Side& sender,
                             const Side& receiver) {
  auto lacks = [&](const std::string& rule, const Side& side,
                   const DeviceId& device, absl::string_view role) {
    if (HasDevice(side.has, device)) return;
    Invalid(rule, ": ", side.name, " has no ", role, " ", ToString(device),
            "; ", Instead(side.has, device));
  };
  std::map<std::string, size_t> sources;
  for (size_t i = 0; i < placement.rules.size(); ++i) {
    const PlacementRule& rule = placement.rules[i];
    bool by_device = rule.kind == PlacementRule::Kind::kDevice;
    std::string what =
        absl::StrCat(field, ".rules[", i, "] (", ToString(rule), ")");
    if (by_device) lacks(what, sender, rule.source, "source");
    lacks(what, receiver, rule.target, "target");
    auto [earlier, first] = sources.try_emplace(
        by_device ? absl::StrCat("device ", ToString(rule.source))
                  : absl::StrCat("name ", rule.name_glob),
        i);
    if (!first) {
      Invalid(what, ": never applies, as rules[", earlier->second, "] (",
              ToString(placement.rules[earlier->second]),
              ") has the same source; remove one of them");
    }
  }
}

void Negotiation::CheckReverse() {
  if (reverse_.ok()) return;
  Invalid(
      "offer.to_caller is not given, and offer.to_callee cannot be "
      "inverted: ",
      reverse_.message());
}

void Negotiation::CheckStreams(absl::string_view field,
                               const std::vector<StreamSpec>& streams,
                               const Side& side) {
  std::set<DeviceId> seen;
  for (size_t i = 0; i < streams.size(); ++i) {
    const DeviceId& device = streams[i].device;
    std::string what = absl::StrCat(field, "[", i, "]");
    if (device.is_cpu()) {
      Invalid(what, ": the CPU of ", side.name, " has no streams; remove it");
    } else if (!HasDevice(side.has, device)) {
      Invalid(what, ": ", side.name, " has no ", ToString(device), "; ",
              Instead(side.has, device));
    } else if (!seen.insert(device).second) {
      Invalid(what, ": ", ToString(device), " of ", side.name,
              " has a stream already; name each device once");
    }
  }
}

void Negotiation::CheckPolicy() {
  std::vector<std::string> permitted;
  for (const DeviceId& device : policy_.devices) {
    permitted.push_back(ToString(device));
  }
  auto object = [&](const std::string& what, const DeviceId& device) {
    Object(absl::StatusCode::kPermissionDenied, what, ": the policy of ",
           callee_.name, " does not let ", caller_.name, " place on ",
           ToString(device), ", only on ", Names(permitted));
  };
  bool cpu_has_rule = false;
  const std::vector<PlacementRule>& rules = offer_.to_callee.rules;
  for (size_t i = 0; i < rules.size(); ++i) {
    cpu_has_rule |= rules[i].kind == PlacementRule::Kind::kDevice &&
                    rules[i].source.is_cpu();
    if (Permits(rules[i].target)) continue;
    object(absl::StrCat("offer.to_callee.rules[", i, "] (", ToString(rules[i]),
                        ")"),
           rules[i].target);
  }
  if (cpu_has_rule || Permits(DeviceId())) return;
  object("offer.to_callee: without a rule for cpu, CPU tensors go to cpu",
         DeviceId());
}

void Negotiation::CheckLimits() {
  for (absl::string_view name : NeededButZero(result_.plan.limits)) {
    auto has_zero = [name](const std::optional<Limits>& limits) {
      if (!limits) return false;
      std::vector<absl::string_view> zero = NeededButZero(*limits);
      return std::find(zero.begin(), zero.end(), name) != zero.end();
    };
    std::string whose = has_zero(offer_.limits)
                            ? absl::StrCat("the offer of ", caller_.name)
                        : has_zero(caller_.has.limits) ? caller_.name
                        : has_zero(callee_.has.limits)
                            ? callee_.name
                            : absl::StrCat("the policy of ", callee_.name);
    Object(absl::StatusCode::kResourceExhausted, "limits.", name, ": ", whose,
           " allows 0, and nothing can be sent within that; allow more");
  }
  CheckStreamCount("offer.caller_streams", offer_.caller_streams, caller_);
  CheckStreamCount("offer.callee_streams", offer_.callee_streams, callee_);
}

void Negotiation::CheckStreamCount(absl::string_view field,
                                   const std::vector<StreamSpec>& streams,
                                   const Side& side) {
  if (side.has.streams_per_device > 0) return;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (streams[i].kind == StreamKind::kDefault) continue;
    Object(absl::StatusCode::kResourceExhausted, field, "[", i,
           "]: ", side.name, " has no stream but the default one on ",
           ToString(streams[i].device), "; ask for that");
  }
}

void Negotiation::CheckPaths() {
  SessionPlan& plan = result_.plan;
  DevicePairs pairs;
  AddPairs(plan.to_callee, true, caller_.has, callee_.has, &pairs);
  AddPairs(plan.to_caller, false, callee_.has, caller_.has, &pairs);
  if (pairs.size() > kMaxPairs) {
    Object(absl::StatusCode::kResourceExhausted, "the rules can use ",
           pairs.size(), " pairs of a device of ", caller_.name, " and one of ",
           callee_.name, ", at most ", kMaxPairs,
           "; declare fewer devices or place by fewer names");
    return;
  }
  size_t refusals = 0;
  for (const auto& [pair, use] : pairs) {
    PathChoice choice =
        ChoosePaths(pair, use, offer_, caller_.has, callee_.has, policy_);
    if (use.needed && choice.ranked.empty()) ObjectToPair(choice);
    refusals += choice.refused.size();
    if (refusals > kMaxRefusals) choice.refused.clear();
    plan.paths.push_back(std::move(choice));
  }
  CheckNameRules("to_callee", plan.to_callee, true, caller_);
  CheckNameRules("to_caller", plan.to_caller, false, callee_);
}

void Negotiation::ObjectToPair(const PathChoice& choice) {
  const SessionPlan& plan = result_.plan;
  const DeviceId at_caller =
      CarriedAs(choice.caller_device, plan.caller_carried);
  const DeviceId at_callee =
      CarriedAs(choice.callee_device, plan.callee_carried);
  std::string why = absl::StrJoin(
      choice.refused, "; ", [](std::string* out, const PathRefusal& refusal) {
        absl::StrAppend(out, "not ", refusal.path, ": ", refusal.reason);
      });
  if (why.empty()) {
    why = absl::StrCat("neither has any; link in one that carries ",
                       at_caller.type, " and ", at_callee.type);
  }
  Object(absl::StatusCode::kFailedPrecondition, "no path between ",
         DeviceAndCrossing(choice.caller_device, at_caller), " of ",
         caller_.name, " and ",
         DeviceAndCrossing(choice.callee_device, at_callee), " of ",
         callee_.name, ": ", why);
}

void Negotiation::CheckNameRules(absl::string_view field,
                                 const Placement& placement, bool to_callee,
                                 const Side& sender) {
  std::set<DeviceId> reachable;
  for (const PathChoice& choice : result_.plan.paths) {
    if (choice.ranked.empty()) continue;
    reachable.insert(to_callee ? choice.callee_device : choice.caller_device);
  }
  const Side& receiver = to_callee ? callee_ : caller_;
  for (size_t i = 0; i < placement.rules.size(); ++i) {
    const PlacementRule& rule = placement.rules[i];
    if (rule.kind != PlacementRule::Kind::kName) continue;
    if (!HasDevice(receiver.has, rule.target)) continue;
    if (reachable.count(rule.target) > 0) continue;
    Object(absl::StatusCode::kFailedPrecondition, field, ".rules[", i, "] (",
           ToString(rule), "): no path from any device of ", sender.name,
           " to ", ToString(rule.target), " of ", receiver.name,
           "; link one in or place elsewhere");
  }
}

}  // namespace

Explanation Explain(const Offer& offer, const Capabilities& caller,
                    const Capabilities& callee, const Policy& policy) {
  return Negotiation(offer, caller, callee, policy).Run();
}

absl::StatusOr<SessionPlan> Negotiate(const Offer& offer,
                                      const Capabilities& caller,
                                      const Capabilities& callee,
                                      const Policy& policy) {
  Explanation explanation = Explain(offer, caller, callee, policy);
  const std::vector<absl::Status>& objections = explanation.objections;
  if (objections.empty()) return std::move(explanation.plan);
  std::string all;
  for (size_t i = 0; i < objections.size(); ++i) {
    if (i == kMaxObjectionsInError) {
      absl::StrAppend(&all, "\n... and ", objections.size() - i, " more");
      break;
    }
    absl::StrAppend(&all, i == 0 ? "" : "\n", objections[i].message());
  }
  return absl::Status(objections.front().code(), all);
}

}  // namespace tensorferry
