#ifndef TENSORFERRY_CONTROL_AUTHORIZER_H_
#define TENSORFERRY_CONTROL_AUTHORIZER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/device_id.h"
#include "base/limits.h"
#include "control/identity.h"
#include "control/offer.h"

namespace tensorferry {

// Tensors of a catalog: those whose bundle and name both globs match.
struct BundleGrant {
  std::string bundle = "*";
  std::string names = "*";
};

// What one identity may do here. As it is made, nothing.
struct Grants {
  bool describe = false;  // ask for capabilities, and whether an offer would do
  int sessions = 0;       // open at a time; it may list and close its own
  std::vector<BundleGrant> list, pull, push;
  // It may place on. Of use only with cpu among them, where all that has no
  // rule goes.
  std::vector<DeviceId> devices;
  bool all_devices = false;
  std::optional<Limits> limits;  // of its sessions; unset: the peer's
  bool administer = false;       // list and close everybody's sessions

  static Grants All();
};

// Says what an identity may do. Asked at every call and for every pull and
// push, on any thread, several at once: be short, and do not destroy the peer
// that asks. What was not given is denied.
class Authorizer {
 public:
  virtual ~Authorizer() = default;
  virtual Grants GrantsOf(const Identity& identity) const = 0;
};

// PERMISSION_DENIED: who may not do what, and what to ask the operator for:
// `grant` is a line of a policy file.
absl::Status NotGranted(const Identity& identity, absl::string_view what,
                        absl::string_view grant);

// Whether tensor `name` of `bundle` is among those granted, and whether any
// tensor of `bundle` might be.
bool Permits(const std::vector<BundleGrant>& grants, absl::string_view bundle,
             absl::string_view name);
bool PermitsBundle(const std::vector<BundleGrant>& grants,
                   absl::string_view bundle);
// Whether any of `names`, which are all the tensors of `bundle`, is among those
// granted; if it has none, whether the bundle is. Otherwise it is hidden.
bool PermitsSome(const std::vector<BundleGrant>& grants,
                 absl::string_view bundle,
                 const std::vector<std::string>& names);

// `policy` less what `grants` does not give. PERMISSION_DENIED: it gives no
// session, or no device.
absl::StatusOr<Policy> Restrict(Policy policy, const Grants& grants,
                                const Identity& identity);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_AUTHORIZER_H_
