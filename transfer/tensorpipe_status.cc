#include "transfer/tensorpipe_status.h"

#include <tensorpipe/core/error.h>

#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "channel/local_channel.h"
#include "transport/hub.h"

namespace tensorferry {

absl::Status ToStatus(const tensorpipe::Error& error, absl::string_view what) {
  if (!error) return absl::OkStatus();
  std::optional<absl::Status> of_channel = LocalChannelErrorStatus(error);
  const absl::Status status =
      of_channel ? *std::move(of_channel) : HubErrorStatus(error.what());
  return absl::Status(status.code(),
                      absl::StrCat(what, ": ", status.message()));
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

}  // namespace tensorferry
