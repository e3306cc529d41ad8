#ifndef TENSORFERRY_CHANNEL_CHANNEL_ERROR_H_
#define TENSORFERRY_CHANNEL_CHANNEL_ERROR_H_

#include <tensorpipe/common/error.h>

#include "absl/status/status.h"

namespace tensorferry {

// As an error that tensorpipe hands on. `status` is not OK; see
// LocalChannelErrorStatus.
tensorpipe::Error LocalChannelError(const absl::Status& status);

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_CHANNEL_ERROR_H_
