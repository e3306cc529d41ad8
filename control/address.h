#ifndef TENSORFERRY_CONTROL_ADDRESS_H_
#define TENSORFERRY_CONTROL_ADDRESS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Where a control service listens or is called: "127.0.0.1:4750",
// "[::1]:4750", "host.name:4750" or "unix:/run/ferry.sock". Port 0 is any free
// one. INVALID_ARGUMENT: not one of these, with what is wrong in it.
absl::Status ValidateControlAddress(absl::string_view address);

// Whether only processes of this host can reach `address`: 127.0.0.0/8, ::1,
// "localhost" and unix sockets. Other names are not looked up and count as
// reachable from outside, as does what is no address at all.
bool IsLoopback(absl::string_view address);

// Views of an address's parts.
struct HostPort {
  absl::string_view host, port;
  bool bracketed = false;  // the host was, and is without its brackets here
};

// Splits at the port's colon; nothing if there is none.
std::optional<HostPort> SplitHostPort(absl::string_view address);

// The path of a valid `unix:` address.
std::string PathOf(absl::string_view address);

// For a valid address that is about to be listened on. A socket that is left at
// a `unix:` path has to be replaced, but not one that somebody listens on:
// UNAVAILABLE if somebody does, or if that cannot be told. Says nothing of
// other addresses, which the system itself gives to one process only.
absl::Status CheckNobodyListens(absl::string_view address);

// For a valid address that a secret is about to be sent to: whether who listens
// on a `unix:` path is our own user or root. PERMISSION_DENIED: it is somebody
// else; UNAVAILABLE: that cannot be told. OK if nobody listens, and for other
// addresses. Whoever may write to the path's folder can still take its place
// between this and the next connection.
absl::Status CheckListenerIsTrusted(absl::string_view address);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_ADDRESS_H_
