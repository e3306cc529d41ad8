#ifndef TENSORFERRY_TRANSPORT_HUB_ERROR_H_
#define TENSORFERRY_TRANSPORT_HUB_ERROR_H_

#include <tensorpipe/common/error.h>

#include "absl/status/status.h"

namespace tensorferry {

// `status`, which is not OK, as tensorpipe takes it. HubErrorStatus reads it
// back.
tensorpipe::Error ToTensorpipeError(const absl::Status& status);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HUB_ERROR_H_
