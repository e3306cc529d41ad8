// Text as a control address: refused with a reason that can be shown, or one
// whose parts make it up again.
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "control/address.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

void Refused(absl::string_view address, const absl::Status& status) {
  Check(absl::IsInvalidArgument(status));
  for (char c : status.message()) Check(!absl::ascii_iscntrl(c));
  Check(!IsLoopback(address));
}

void Unix(absl::string_view address) {
  const std::string path = PathOf(address);
  Check(!path.empty() && path.size() < sizeof(sockaddr_un::sun_path));
  Check(path.find('\0') == std::string::npos);
  Check(IsLoopback(address));
}

void Tcp(absl::string_view address) {
  const std::optional<HostPort> parts = SplitHostPort(address);
  Check(parts.has_value() && !parts->host.empty() && !parts->port.empty());
  const std::string again =
      parts->bracketed ? absl::StrCat("[", parts->host, "]:", parts->port)
                       : absl::StrCat(parts->host, ":", parts->port);
  Check(again == address);
  IsLoopback(address);
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  tensorferry::SplitHostPort(text);  // of any text
  const absl::Status valid = tensorferry::ValidateControlAddress(text);
  if (!valid.ok()) {
    tensorferry::Refused(text, valid);
  } else if (absl::StartsWith(text, "unix:")) {
    tensorferry::Unix(text);
  } else {
    tensorferry::Tcp(text);
  }
  return 0;
}
