#ifndef TENSORFERRY_TRANSFER_LOOPBACK_H_
#define TENSORFERRY_TRANSFER_LOOPBACK_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Data goes over loopback only, as long as lanes are neither authenticated by
// more than a key nor encrypted.

// Whether `host` is a loopback address: "127.0.0.1".
bool IsLoopbackHost(absl::string_view host);

// OK if `address` is "TRANSPORT://HOST:PORT" with a loopback host, else
// INVALID_ARGUMENT.
absl::Status CheckLoopback(absl::string_view address);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LOOPBACK_H_
