#include "session/user_code.h"

#include <exception>

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status RunUserCode(absl::string_view what,
                         absl::FunctionRef<void()> code) {
  try {
    code();
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat(what, " threw: ", e.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(what, " threw"));
  }
}

}  // namespace tensorferry
