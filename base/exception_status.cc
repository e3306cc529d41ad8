#include "base/exception_status.h"

#include <exception>
#include <new>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status CatchExceptions(absl::string_view what,
                             absl::FunctionRef<void()> code) {
  try {
    code();
    return absl::OkStatus();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " ran out of memory"));
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::resource_unavailable_try_again) {
      return absl::InternalError(absl::StrCat(what, " threw: ", e.what()));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " got no thread (see ulimit -u): ", e.what()));
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat(what, " threw: ", e.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(what, " threw"));
  }
}

}  // namespace tensorferry
