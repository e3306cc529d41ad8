#include "control/path_choice.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "control/text.h"

namespace tensorferry {
namespace {

// A peer's names are in each reason: what is kept of them is bounded here.
constexpr size_t kMaxRefusals = 16;
constexpr size_t kMaxReasonBytes = 256;

bool Allows(const std::vector<std::string>& names, const std::string& path) {
  return names.empty() || Lists(names, path);
}

// Looks at one path after the other in the directions that are used.
class PathJudge {
 public:
  // `pair`: as it crosses.
  PathJudge(const std::pair<DeviceId, DeviceId>& pair, const PairUse& use,
            const Offer& offer, const Capabilities& caller,
            const Capabilities& callee, const Policy& policy)
      : caller_device_(pair.first),
        callee_device_(pair.second),
        offer_(offer),
        caller_(caller),
        callee_(callee),
        policy_(policy) {
    const std::string& at_caller = caller_device_.type;
    const std::string& at_callee = callee_device_.type;
    if (use.to_callee) directions_.push_back({at_caller, at_callee});
    if (use.to_caller && !(use.to_callee && at_caller == at_callee)) {
      directions_.push_back({at_callee, at_caller});
    }
  }

  // Those that are taken, best first, and of others why not.
  void Judge(PathChoice* choice) const {
    for (const std::string& name : Candidates()) {
      std::string refusal = Refusal(name);
      if (refusal.empty()) {
        choice->ranked.push_back(name);
      } else {
        choice->refused.push_back({name, std::move(refusal)});
      }
    }
    // Candidates come sorted by name: that decides between equal priorities.
    std::stable_sort(choice->ranked.begin(), choice->ranked.end(),
                     [&](const std::string& a, const std::string& b) {
                       return Priority(a) > Priority(b);
                     });
  }

 private:
  // All paths that one of the two has in one of the directions.
  std::set<std::string> Candidates() const {
    std::set<std::string> names;
    for (const Capabilities* peer : {&caller_, &callee_}) {
      for (const PathCapability& path : peer->paths) {
        for (const auto& [from, to] : directions_) {
          if (path.from_type == from && path.to_type == to) {
            names.insert(path.name);
          }
        }
      }
    }
    return names;
  }

  // Why `name` is not taken; empty: it is.
  std::string Refusal(const std::string& name) const {
    if (!Allows(offer_.paths, name)) {
      return absl::StrCat("the offer of ", Caller(), " allows only ",
                          Names(offer_.paths));
    }
    if (!Allows(policy_.paths, name)) {
      return absl::StrCat("the policy of ", Callee(), " allows only ",
                          Names(policy_.paths));
    }
    for (const auto& [from, to] : directions_) {
      for (bool at_caller : {true, false}) {
        std::string refusal = RefusalOf(at_caller, name, from, to);
        if (!refusal.empty()) return refusal;
      }
    }
    return "";
  }

  // Only of paths that are taken.
  int Priority(const std::string& name) const {
    const auto& [from, to] = directions_.front();
    return FindPath(callee_, name, from, to)->priority;
  }

  std::string RefusalOf(bool at_caller, const std::string& name,
                        const std::string& from, const std::string& to) const {
    const PathCapability* path =
        FindPath(at_caller ? caller_ : callee_, name, from, to);
    std::string who = at_caller ? Caller() : Callee();
    if (path == nullptr) {
      return absl::StrCat(who, " does not have it for ", from, " -> ", to,
                          "; link it in there");
    }
    if (!path->unusable.empty()) {
      return absl::StrCat(who, " cannot use it: ", path->unusable);
    }
    const auto& named = at_caller ? offer_.paths : policy_.paths;
    if (path->only_if_named && !Lists(named, name)) {
      return absl::StrCat(who, " takes it only if ",
                          at_caller ? "the offer" : "its policy", " names it");
    }
    std::string refusal = TooFar(path->reach);
    if (!refusal.empty() || !path->opens_device) return refusal;
    refusal = Unseen(Callee(), callee_, caller_device_, Caller(), caller_);
    if (!refusal.empty()) return refusal;
    return Unseen(Caller(), caller_, callee_device_, Callee(), callee_);
  }

  // Why `looking` cannot open memory on a device of `owner`; empty: it can.
  static std::string Unseen(const std::string& who, const Capabilities& looking,
                            const DeviceId& device, const std::string& whose,
                            const Capabilities& owner) {
    const DeviceInfo* const own = FindDevice(owner, device);
    const std::string uuid = own == nullptr ? "" : own->uuid;
    if (uuid.empty()) {
      return absl::StrCat(whose, " does not tell the UUID of its ",
                          ToString(device));
    }
    for (const DeviceInfo& seen : looking.devices) {
      if (seen.uuid == uuid) return "";
    }
    return absl::StrCat(who, " does not see ", uuid, ", ", ToString(device),
                        " of ", whose);
  }

  std::string TooFar(PathCapability::Reach reach) const {
    if (reach == PathCapability::Reach::kAnywhere) return "";
    if (caller_.host_id.empty() || caller_.host_id != callee_.host_id) {
      return absl::StrCat("it works within one host; ", Caller(),
                          " is on host \"", caller_.host_id, "\", ", Callee(),
                          " on host \"", callee_.host_id, "\"");
    }
    if (reach == PathCapability::Reach::kSameHostAndUser &&
        caller_.user_id != callee_.user_id) {
      return absl::StrCat("it works between processes of one user; ", Caller(),
                          " runs as user ", caller_.user_id, ", ", Callee(),
                          " as user ", callee_.user_id);
    }
    if (reach == PathCapability::Reach::kSameProcess &&
        (caller_.process_id == 0 || caller_.process_id != callee_.process_id)) {
      return absl::StrCat(
          "it works within one process; the peers are two "
          "processes, ",
          caller_.process_id, " and ", callee_.process_id);
    }
    return "";
  }

  std::string Caller() const {
    return absl::StrCat("caller \"", caller_.peer.name, "\"");
  }
  std::string Callee() const {
    return absl::StrCat("callee \"", callee_.peer.name, "\"");
  }

  const DeviceId caller_device_, callee_device_;  // as they cross
  const Offer& offer_;
  const Capabilities& caller_;
  const Capabilities& callee_;
  const Policy& policy_;
  std::vector<std::pair<std::string, std::string>> directions_;
};

// Whether a list of what is allowed has a path of this pair's own, which was
// not to be had: whoever lists one wants it, and no way round.
bool NameOneOf(const std::vector<std::string>& names,
               const PathChoice& choice) {
  return std::any_of(
      choice.refused.begin(), choice.refused.end(),
      [&](const PathRefusal& refusal) { return Lists(names, refusal.path); });
}

// Why one of the two cannot copy its device's memory to the host's and back;
// empty: they can.
std::string WhyNotThroughHost(const std::pair<DeviceId, DeviceId>& pair,
                              const Capabilities& caller,
                              const Capabilities& callee) {
  for (const bool at_caller : {true, false}) {
    const Capabilities& peer = at_caller ? caller : callee;
    const DeviceId& device = at_caller ? pair.first : pair.second;
    const DeviceInfo* const own = FindDevice(peer, device);
    if (own == nullptr || own->not_through_host.empty()) continue;
    return absl::StrCat(at_caller ? "caller \"" : "callee \"", peer.peer.name,
                        "\" does not copy ", ToString(device), ": ",
                        own->not_through_host);
  }
  return "";
}

void CutRefusals(std::vector<PathRefusal>* refused) {
  for (PathRefusal& refusal : *refused) {
    refusal.reason = Cut(std::move(refusal.reason), kMaxReasonBytes);
  }
  if (refused->size() <= kMaxRefusals) return;
  const size_t more = refused->size() - kMaxRefusals;
  refused->resize(kMaxRefusals);
  refused->push_back({"others", absl::StrCat(more, " more")});
}

}  // namespace

bool Lists(const std::vector<std::string>& names, const std::string& path) {
  return std::find(names.begin(), names.end(), path) != names.end();
}

const DeviceInfo* FindDevice(const Capabilities& peer, const DeviceId& device) {
  for (const DeviceInfo& own : peer.devices) {
    if (own.id == device) return &own;
  }
  return nullptr;
}

bool HasDevice(const Capabilities& peer, const DeviceId& device) {
  return FindDevice(peer, device) != nullptr;
}

CarriedDevices CarriedDevicesOf(const Capabilities& peer) {
  CarriedDevices carried;
  for (const DeviceInfo& device : peer.devices) {
    if (device.carried_as) carried[device.id] = *device.carried_as;
  }
  return carried;
}

const PathCapability* FindPath(const Capabilities& peer,
                               const std::string& name,
                               const std::string& from_type,
                               const std::string& to_type) {
  for (const PathCapability& path : peer.paths) {
    if (path.name == name && path.from_type == from_type &&
        path.to_type == to_type) {
      return &path;
    }
  }
  return nullptr;
}

void AddPairs(const Placement& placement, bool to_callee,
              const Capabilities& sender, const Capabilities& receiver,
              DevicePairs* pairs) {
  auto add = [&](const DeviceId& source, const DeviceId& target, bool needed) {
    PairUse& use = (*pairs)[to_callee ? std::make_pair(source, target)
                                      : std::make_pair(target, source)];
    (to_callee ? use.to_callee : use.to_caller) = true;
    use.needed |= needed;
  };
  auto both_have = [&](const DeviceId& source, const DeviceId& target) {
    return HasDevice(sender, source) && HasDevice(receiver, target);
  };
  DeviceId cpu;  // lane 0 runs between the CPUs
  if (both_have(cpu, cpu)) add(cpu, cpu, true);
  for (const PlacementRule& rule : placement.rules) {
    if (rule.kind == PlacementRule::Kind::kDevice) {
      if (both_have(rule.source, rule.target)) {
        add(rule.source, rule.target, true);
      }
    } else if (HasDevice(receiver, rule.target)) {
      for (const DeviceInfo& source : sender.devices) {
        add(source.id, rule.target, false);
      }
    }
  }
}

PathChoice ChoosePaths(const std::pair<DeviceId, DeviceId>& pair,
                       const PairUse& use, const Offer& offer,
                       const Capabilities& caller, const Capabilities& callee,
                       const Policy& policy) {
  PathChoice choice;
  choice.caller_device = pair.first;
  choice.callee_device = pair.second;
  const std::pair<DeviceId, DeviceId> crossing(
      CarriedAs(pair.first, CarriedDevicesOf(caller)),
      CarriedAs(pair.second, CarriedDevicesOf(callee)));
  PathJudge(crossing, use, offer, caller, callee, policy).Judge(&choice);
  const std::pair<DeviceId, DeviceId> hosts;
  // An offer chooses among what a policy allows.
  const bool wants_others =
      NameOneOf(offer.paths.empty() ? policy.paths : offer.paths, choice);
  if (choice.ranked.empty() && crossing != hosts && !wants_others) {
    std::string why_not = WhyNotThroughHost(pair, caller, callee);
    if (why_not.empty()) {
      PathJudge(hosts, use, offer, caller, callee, policy).Judge(&choice);
      choice.through_host = !choice.ranked.empty();
    } else {
      choice.refused.insert(choice.refused.begin(),
                            {"through host memory", std::move(why_not)});
    }
  }
  CutRefusals(&choice.refused);
  return choice;
}

}  // namespace tensorferry
