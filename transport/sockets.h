#ifndef TENSORFERRY_TRANSPORT_SOCKETS_H_
#define TENSORFERRY_TRANSPORT_SOCKETS_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "transport/data_address.h"

namespace tensorferry {

// An address as the system takes it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
};

SocketAddress ToSocketAddress(const DataAddress& address);

// Listens, non-blocking. What is accepted has the options of OpenSocket, as
// Linux hands them on (tcp(7)). Port 0: any. UNAVAILABLE: not possible here.
// RESOURCE_EXHAUSTED: no descriptors.
absl::StatusOr<UniqueFd> Listen(const DataAddress& address);
// One of the ports; 0 to 0: any. `address.port` is the one it got.
absl::StatusOr<UniqueFd> ListenInRange(DataAddress& address, uint16_t lowest,
                                       uint16_t highest);

// A socket for a connection to `address`: small writes leave at once, and it
// ends if the other end is not heard of for half a minute. RESOURCE_EXHAUSTED:
// no descriptors.
absl::StatusOr<UniqueFd> OpenSocket(const DataAddress& address);

// Drops what has come over TCP so far, up to 64 KiB. Closed with unread bytes,
// a connection is reset, and what the peer was told last may be lost to it.
void DropUnread(int fd);

// The other end of a TCP connection: a number without the port.
std::string RemoteHost(int fd);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_SOCKETS_H_
