#include "base/socket_ends.h"

#include <netinet/in.h>
#include <sys/socket.h>

namespace tensorferry {
namespace {

// Of family AF_UNSPEC if there is none.
sockaddr_storage NameOf(int fd) {
  sockaddr_storage name = {};
  socklen_t length = sizeof(name);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) {
    return {};
  }
  return name;
}

}  // namespace

int FamilyOf(int fd) { return NameOf(fd).ss_family; }

uint16_t PortOf(int fd) {
  const sockaddr_storage name = NameOf(fd);
  if (name.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(name).sin_port);
  }
  if (name.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(name).sin6_port);
  }
  return 0;
}

std::optional<PeerProcess> PeerOfSocket(int fd) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (FamilyOf(fd) != AF_UNIX ||
      getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return std::nullopt;
  }
  return PeerProcess{.pid = peer.pid, .uid = peer.uid};
}

}  // namespace tensorferry
