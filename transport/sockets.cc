#include "transport/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr int kBacklog = 512;
constexpr int kIdleSeconds = 10, kProbeSeconds = 5, kProbes = 4;
constexpr int kUnheardMilliseconds = 30 * 1000;

absl::Status Failed(const char* call, const DataAddress& address, int error) {
  std::string text =
      absl::StrCat(call, " ", ToString(address), ": ", std::strerror(error));
  return error == EMFILE || error == ENFILE || error == ENOBUFS
             ? absl::ResourceExhaustedError(text)
             : absl::UnavailableError(text);
}

void SetOption(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof(value));
}

// Small writes at once; ends if the other end is not heard of for half a
// minute. No effect on unix sockets.
void TuneConnection(int fd) {
  const int family = FamilyOf(fd);
  if (family != AF_INET && family != AF_INET6) return;
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUnheardMilliseconds);
}

SocketAddress UnixAddress(const std::string& path) {
  SocketAddress out;
  auto& address = reinterpret_cast<sockaddr_un&>(out.storage);
  address.sun_family = AF_UNIX;
  const size_t size = std::min(path.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path, path.data(), size);
  const bool abstract = !path.empty() && path[0] == '@';
  if (abstract) address.sun_path[0] = 0;
  // The length tells where an abstract name ends, a zero byte where a path
  // does.
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size +
                                      (abstract ? 0 : 1));
  return out;
}

}  // namespace

SocketAddress ToSocketAddress(const DataAddress& address) {
  if (address.wire == Wire::kUnix) return UnixAddress(address.path);
  SocketAddress out;
  auto& v4 = reinterpret_cast<sockaddr_in&>(out.storage);
  if (inet_pton(AF_INET, address.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    out.length = sizeof(v4);
    return out;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out.storage);
  inet_pton(AF_INET6, address.host.c_str(), &v6.sin6_addr);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(address.port);
  out.length = sizeof(v6);
  return out;
}

absl::StatusOr<UniqueFd> OpenSocket(const DataAddress& address) {
  UniqueFd fd(socket(ToSocketAddress(address).storage.ss_family,
                     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Failed("socket for", address, errno);
  TuneConnection(fd.get());
  return fd;
}

absl::StatusOr<UniqueFd> Listen(const DataAddress& address) {
  FERRY_ASSIGN_OR_RETURN(UniqueFd fd, OpenSocket(address));
  const SocketAddress where = ToSocketAddress(address);
  if (where.storage.ss_family == AF_INET6) {
    // "::" takes IPv4 too.
    SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, address.host != "::");
  }
  // Connections of a process before this one may still be on their way out.
  if (address.wire != Wire::kUnix) {
    SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  }
  if (bind(fd.get(), where.get(), where.length) != 0) {
    return Failed("bind to", address, errno);
  }
  if (listen(fd.get(), kBacklog) != 0) {
    return Failed("listen on", address, errno);
  }
  return fd;
}

absl::StatusOr<UniqueFd> ListenInRange(DataAddress& address, uint16_t lowest,
                                       uint16_t highest) {
  absl::Status last;
  for (uint32_t port = lowest; port <= highest; ++port) {
    address.port = static_cast<uint16_t>(port);
    auto fd = Listen(address);
    if (fd.ok()) {
      address.port = PortOf(fd->get());
      return fd;
    }
    last = fd.status();
    if (!absl::IsUnavailable(last)) break;
  }
  if (lowest == highest || !absl::IsUnavailable(last)) return last;
  return absl::UnavailableError(
      absl::StrCat("no port from ", lowest, " to ", highest, " of ",
                   address.host, " is free; the last: ", last.message()));
}

void DropUnread(int fd) {
  if (FamilyOf(fd) == AF_UNIX) return;  // nothing is lost there
  recv(fd, nullptr, 64 << 10, MSG_TRUNC | MSG_DONTWAIT);
}

std::string RemoteHost(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  char text[INET6_ADDRSTRLEN] = "";
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) {
    return "";
  }
  if (name.ss_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in&>(name).sin_addr, text,
              sizeof(text));
  } else if (name.ss_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6&>(name).sin6_addr, text,
              sizeof(text));
  }
  return text;
}

}  // namespace tensorferry
