#ifndef TENSORFERRY_TRANSPORT_DESCRIPTORS_H_
#define TENSORFERRY_TRANSPORT_DESCRIPTORS_H_

#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {

// File descriptors beside the bytes of a hub's connection. Only unix sockets
// carry them, and only after both ends have proved the session's key: what a
// stranger sends is dropped. They are of memory of a memfd's that is sealed
// against shrinking and growing: to close others may block. Any thread.

// So many that came may wait to be taken. With more, or more than
// ByteStream::kMostAtOnce of them at once, or one of another kind, the
// connection ends with DATA_LOSS, and they are closed.
inline constexpr size_t kMostDescriptorsWaiting = 8;

// FAILED_PRECONDITION: not over TCP or TLS, not before it is connected, not on
// a connection of another transport.
absl::Status CarriesDescriptors(
    const tensorpipe::transport::Connection& connection);

// Connection::write, of a connection that carries descriptors. The peer has
// `descriptor` no later than the first of the bytes. It must stay open until
// `done`; the peer's is one of its own. `without` is as long as `data`, and is
// written instead where the system does not let the descriptor go.
void WriteWithDescriptor(
    tensorpipe::transport::Connection& connection, int descriptor,
    const void* data, const void* without, size_t length,
    tensorpipe::transport::Connection::write_callback_fn done);

// The oldest of those that came; nullopt: none. It is closed on exec. Invalid:
// it could not come, most likely since this process has as many open as it may.
std::optional<UniqueFd> TakeDescriptor(
    const tensorpipe::transport::Connection& connection);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_DESCRIPTORS_H_
