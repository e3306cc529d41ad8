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

// Listens, non-blocking. Port 0: any. UNAVAILABLE: not possible here.
// RESOURCE_EXHAUSTED: no descriptors.
absl::StatusOr<UniqueFd> Listen(const DataAddress& address);
// One of the ports; 0 to 0: any. `address.port` is the one it got.
absl::StatusOr<UniqueFd> ListenInRange(DataAddress& address, uint16_t lowest,
                                       uint16_t highest);

// A socket for a connection to `address`. RESOURCE_EXHAUSTED: no descriptors.
absl::StatusOr<UniqueFd> OpenSocket(const DataAddress& address);
// Small writes at once; ends if the other end is not heard of for half a
// minute. No effect on unix sockets.
void TuneConnection(int fd);

// The other end of a TCP connection: a number without the port.
std::string RemoteHost(int fd);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_SOCKETS_H_
