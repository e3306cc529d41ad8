#include "base/placement.h"

#include <algorithm>
#include <limits>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tensorferry {
namespace {

constexpr absl::string_view kNamePrefix = "name:";

// Whether `text` is written like a device, be it a valid one or not: a tensor
// may well be called "weight", so a bare word is one only if it is well known.
bool LooksLikeDevice(absl::string_view text) {
  if (text == "cpu" || text == "cuda") return true;
  size_t colon = text.find(':');
  if (colon == absl::string_view::npos) return false;
  absl::string_view index = text.substr(colon + 1);
  for (char c : index) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return !index.empty();
}

bool IsReadAsName(absl::string_view glob) {
  return !absl::StartsWith(glob, kNamePrefix) && !LooksLikeDevice(glob);
}

absl::Status BadRule(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "placement rule \"", text, "\": ", why,
      "; want SRC=DST, where SRC is a device or a glob over tensor names and "
      "DST is a device, like \"cuda:0=cpu\" or \"encoder.*=cuda:1\""));
}

template <class Wanted>
const PlacementRule* FindRule(const Placement& placement, Wanted wanted) {
  auto found =
      std::find_if(placement.rules.begin(), placement.rules.end(), wanted);
  return found == placement.rules.end() ? nullptr : &*found;
}

}  // namespace

bool GlobMatches(absl::string_view glob, absl::string_view text) {
  int64_t steps = std::numeric_limits<int64_t>::max();
  return GlobMatches(glob, text, &steps);
}

bool GlobMatches(absl::string_view glob, absl::string_view text,
                 int64_t* steps) {
  size_t g = 0, t = 0;
  // Where to go on if what follows the last '*' does not match: right after
  // that '*', with it having eaten one character more.
  size_t after_star = absl::string_view::npos, star_ends = 0;
  while (t < text.size()) {
    if (--*steps < 0) return false;
    if (g == glob.size() && g == after_star) return true;  // the '*' eats it
    if (g < glob.size() && glob[g] == '*') {
      after_star = ++g;
      star_ends = t;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t])) {
      ++g;
      ++t;
    } else if (after_star != absl::string_view::npos) {
      g = after_star;
      t = ++star_ends;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*' && --*steps >= 0) ++g;
  return g == glob.size();
}

absl::StatusOr<DeviceId> Placement::TargetFor(const DeviceId& source,
                                              absl::string_view name,
                                              int64_t* steps) const {
  for (const PlacementRule& rule : rules) {
    bool matches =
        rule.kind == PlacementRule::Kind::kDevice
            ? rule.source == source
            : !name.empty() && GlobMatches(rule.name_glob, name, steps);
    if (--*steps < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("placement: matching names against ", rules.size(),
                       " rules takes more than ", kMatchSteps,
                       " steps; use fewer or simpler name rules"));
    }
    if (matches) return rule.target;
  }
  if (source.is_cpu()) return DeviceId();
  std::string device = ToString(source);
  return absl::FailedPreconditionError(absl::StrCat(
      "no placement rule covers ", device, name.empty() ? "" : " of tensor \"",
      name, name.empty() ? "" : "\"", "; add one like \"", device, "=cpu\""));
}

bool Placement::HasNameRules() const {
  return absl::c_any_of(rules, [](const PlacementRule& rule) {
    return rule.kind == PlacementRule::Kind::kName;
  });
}

absl::StatusOr<PlacementRule> ParsePlacementRule(absl::string_view text) {
  size_t equals = text.rfind('=');  // a tensor name may contain one
  if (equals == absl::string_view::npos) return BadRule(text, "has no '='");
  absl::string_view source = text.substr(0, equals);
  PlacementRule rule;
  if (absl::ConsumePrefix(&source, kNamePrefix) || !LooksLikeDevice(source)) {
    if (source.empty()) return BadRule(text, "names nothing to place");
    rule.kind = PlacementRule::Kind::kName;
    rule.name_glob = std::string(source);
  } else {
    auto device = ParseDeviceId(source);
    if (!device.ok()) {
      return BadRule(text, absl::StrCat(device.status().message(),
                                        " (for a tensor of that name write "
                                        "\"name:",
                                        source, "\")"));
    }
    rule.source = *std::move(device);
  }
  auto target = ParseDeviceId(text.substr(equals + 1));
  if (!target.ok()) return BadRule(text, target.status().message());
  rule.target = *std::move(target);
  return rule;
}

std::string ToString(const PlacementRule& rule) {
  if (rule.kind == PlacementRule::Kind::kDevice) {
    return absl::StrCat(ToString(rule.source), "=", ToString(rule.target));
  }
  return absl::StrCat(IsReadAsName(rule.name_glob) ? "" : kNamePrefix,
                      rule.name_glob, "=", ToString(rule.target));
}

absl::StatusOr<Placement> Invert(const Placement& placement) {
  Placement inverse;
  for (const PlacementRule& rule : placement.rules) {
    if (rule.kind != PlacementRule::Kind::kDevice) {
      return absl::FailedPreconditionError(absl::StrCat(
          "placement rule \"", ToString(rule),
          "\" goes by name and has no reverse; name the placement of the "
          "reverse direction in the offer"));
    }
    if (FindRule(inverse, [&](const PlacementRule& earlier) {
          return earlier.target == rule.source;
        })) {
      continue;  // never matches
    }
    const PlacementRule* taken = FindRule(
        inverse, [&](auto& earlier) { return earlier.source == rule.target; });
    if (taken != nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "both ", ToString(taken->target), " and ", ToString(rule.source),
          " are placed on ", ToString(rule.target),
          ", so there is no reverse; name the placement of the reverse "
          "direction in the offer"));
    }
    inverse.rules.push_back(
        {PlacementRule::Kind::kDevice, rule.target, "", rule.source});
  }
  return inverse;
}

}  // namespace tensorferry
