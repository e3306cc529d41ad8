#include "transfer/tensorpipe_status.h"

#include <tensorpipe/core/error.h>

#include <exception>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status ToStatus(const tensorpipe::Error& error, absl::string_view what) {
  if (!error) return absl::OkStatus();
  std::string text = absl::StrCat(what, ": ", error.what());
  if (absl::StrContains(text, "Expected to read") ||
      absl::StrContains(text, "short read")) {
    return absl::DataLossError(text);
  }
  return absl::UnavailableError(text);
}

absl::Status CurrentExceptionStatus(absl::string_view what) {
  try {
    throw;
  } catch (const std::exception& thrown) {
    return absl::InternalError(
        absl::StrCat(what, ": tensorpipe threw: ", thrown.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(what, ": tensorpipe threw"));
  }
}

std::string RefusedChannel(const tensorpipe::Error& error) {
  std::string text = error ? error.what() : "";
  bool refused = absl::StrContains(text, "process_vm_readv") &&
                 !absl::StrContains(text, "No such process");
  return refused ? "cma" : "";
}

}  // namespace tensorferry
