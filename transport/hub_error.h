#ifndef TENSORFERRY_TRANSPORT_HUB_ERROR_H_
#define TENSORFERRY_TRANSPORT_HUB_ERROR_H_

#include <tensorpipe/common/error.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// `status`, which is not OK, as tensorpipe takes it.
tensorpipe::Error ToTensorpipeError(const absl::Status& status);
// Back from the error's text. UNAVAILABLE for errors of another origin.
absl::Status FromTensorpipeError(absl::string_view text);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HUB_ERROR_H_
