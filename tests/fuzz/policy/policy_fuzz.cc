// A policy file, as an operator may have written it: read, or refused with a
// line; what it gives can be asked for anybody.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "control/policy_file.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

void Read(const std::string& text) {
  const auto rules = ParsePolicy(text);
  if (!rules.ok()) {
    Check(absl::IsInvalidArgument(rules.status()));
    Check(!rules.status().message().empty());
    return;
  }
  for (const Identity& identity :
       {Identity(), Identity{{"token:ci"}}, Identity{{"uid:0", "cert:a.b"}}}) {
    const Grants grants = GrantsFrom(*rules, identity);
    const auto policy = Restrict(Policy(), grants, identity);
    Check(policy.ok() == (grants.sessions > 0 &&
                          (grants.all_devices || !grants.devices.empty())));
    Check(Permits(grants.pull, "b", "n") <= PermitsBundle(grants.pull, "b"));
  }
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::Read(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
