#ifndef TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_
#define TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_

#include <tensorpipe/common/error.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// What an error of tensorpipe means to a user: see HubErrorStatus and
// LocalChannelErrorStatus. Nearly all say that the peer, or the way to it, is
// gone: UNAVAILABLE.
absl::Status ToStatus(const tensorpipe::Error& error, absl::string_view what);

// The same for what a call of tensorpipe has thrown; call it in a catch block.
absl::Status CurrentExceptionStatus(absl::string_view what);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_
