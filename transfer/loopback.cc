#include "transfer/loopback.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tensorferry {
namespace {

bool IsByte(absl::string_view text) {
  int value = 0;
  return !text.empty() && text.size() <= 3 &&
         text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, &value) && value < 256;
}

bool IsPort(absl::string_view text) {
  int value = 0;
  return text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, &value) && value > 0 && value < 65536;
}

}  // namespace

bool IsLoopbackHost(absl::string_view host) {
  std::vector<absl::string_view> bytes = absl::StrSplit(host, '.');
  return bytes.size() == 4 && bytes[0] == "127" && IsByte(bytes[1]) &&
         IsByte(bytes[2]) && IsByte(bytes[3]);
}

absl::Status CheckLoopback(absl::string_view address) {
  std::vector<absl::string_view> parts = absl::StrSplit(address, "://");
  const size_t colon = parts.back().rfind(':');
  if (parts.size() == 2 && !parts[0].empty() &&
      colon != absl::string_view::npos &&
      IsLoopbackHost(parts[1].substr(0, colon)) &&
      IsPort(parts[1].substr(colon + 1))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", address,
                   "\": want TRANSPORT://127.x.x.x:PORT; data goes over "
                   "loopback only"));
}

}  // namespace tensorferry
