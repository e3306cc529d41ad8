#ifndef TENSORFERRY_BASE_SOCKET_ENDS_H_
#define TENSORFERRY_BASE_SOCKET_ENDS_H_

#include <cstdint>
#include <optional>

#include "base/peer_process.h"

namespace tensorferry {

// AF_UNIX, AF_INET, ...; AF_UNSPEC: not a socket.
int FamilyOf(int fd);

// The port of our end of an IPv4 or IPv6 socket; 0: it has none.
uint16_t PortOf(int fd);

// Who holds the other end of a unix socket. nullopt: cannot be told, or it is
// no such socket.
std::optional<PeerProcess> PeerOfSocket(int fd);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_SOCKET_ENDS_H_
