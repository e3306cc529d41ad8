#include "transfer/tensorpipe_status.h"

#include <tensorpipe/core/error.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
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
  return CatchExceptions(absl::StrCat(what, ": tensorpipe"), [] { throw; });
}

}  // namespace tensorferry
