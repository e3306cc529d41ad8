#include "control/authorizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/placement.h"

namespace tensorferry {

std::string ToString(const Identity& identity) {
  if (identity.principals.empty()) return "anonymous";
  return absl::StrJoin(identity.principals, ", ");
}

Grants Grants::All() {
  Grants all;
  all.describe = true;
  all.sessions = std::numeric_limits<int>::max();
  all.list = all.pull = all.push = {BundleGrant()};
  all.all_devices = true;
  all.administer = true;
  return all;
}

absl::Status NotGranted(const Identity& identity, absl::string_view what,
                        absl::string_view grant) {
  return absl::PermissionDeniedError(absl::StrCat(
      ToString(identity), " may not ", what, " here; ask the operator for `",
      grant, "` in its rule of the policy"));
}

bool Permits(const std::vector<BundleGrant>& grants, absl::string_view bundle,
             absl::string_view name) {
  return std::any_of(grants.begin(), grants.end(),
                     [&](const BundleGrant& grant) {
                       return GlobMatches(grant.bundle, bundle) &&
                              GlobMatches(grant.names, name);
                     });
}

bool PermitsBundle(const std::vector<BundleGrant>& grants,
                   absl::string_view bundle) {
  return std::any_of(grants.begin(), grants.end(),
                     [&](const BundleGrant& grant) {
                       return GlobMatches(grant.bundle, bundle);
                     });
}

bool PermitsSome(const std::vector<BundleGrant>& grants,
                 absl::string_view bundle,
                 const std::vector<std::string>& names) {
  if (names.empty()) return PermitsBundle(grants, bundle);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return Permits(grants, bundle, name);
  });
}

absl::StatusOr<Policy> Restrict(Policy policy, const Grants& grants,
                                const Identity& identity) {
  if (grants.sessions < 1) {
    return NotGranted(identity, "open sessions", "sessions: 1");
  }
  if (grants.limits) {
    policy.limits = policy.limits ? Smaller(*policy.limits, *grants.limits)
                                  : *grants.limits;
  }
  if (grants.all_devices) return policy;
  std::vector<DeviceId> both;
  for (const DeviceId& device : grants.devices) {
    if (policy.devices.empty() ||
        std::find(policy.devices.begin(), policy.devices.end(), device) !=
            policy.devices.end()) {
      both.push_back(device);
    }
  }
  if (both.empty()) {  // which would be all of them in a Policy
    return NotGranted(identity, "place tensors on any device",
                      "devices: \"cpu\"");
  }
  policy.devices = std::move(both);
  return policy;
}

}  // namespace tensorferry
