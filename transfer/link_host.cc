#include "transfer/link_host.h"

#include "absl/strings/str_cat.h"

namespace tensorferry {

std::string LinkHost::Whom() const {
  return absl::StrCat(rules.peer_name.empty() ? "the peer" : rules.peer_name,
                      rules.session_id.empty() ? "" : ", session ",
                      rules.session_id);
}

absl::Status LinkHost::About(const std::string& what,
                             const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(what, ": ", status.message()));
}

}  // namespace tensorferry
