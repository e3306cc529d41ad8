#ifndef TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_
#define TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_

#include <tensorpipe/common/error.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// What an error of tensorpipe means to a user; the only translation there is.
// Nearly all say that the peer, or the way to it, is gone: UNAVAILABLE.
// DATA_LOSS: bytes were cut short.
absl::Status ToStatus(const tensorpipe::Error& error, absl::string_view what);

// The same for what a call of tensorpipe has thrown; call it in a catch block.
absl::Status CurrentExceptionStatus(absl::string_view what);

// The channel whose own way of copying was refused by the system, as opposed
// to one that merely saw its peer go; empty: none. Such a channel will fail
// again.
std::string RefusedChannel(const tensorpipe::Error& error);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_TENSORPIPE_STATUS_H_
