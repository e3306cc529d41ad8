#include "tests/reliability/raw_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/becomes.h"

namespace tensorferry {
namespace testing {
namespace {

absl::Status SystemError(const char* call) {
  return absl::UnavailableError(absl::StrCat(call, ": ", strerror(errno)));
}

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

template <class Address>
SocketAddress Wrap(const Address& address, socklen_t length) {
  SocketAddress wrapped;
  std::memcpy(&wrapped.storage, &address, sizeof(address));
  wrapped.length = length;
  return wrapped;
}

SocketAddress AddressOf(const ListeningSocket& to) {
  if (to.host.empty()) {
    sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t length =
        std::min(to.path.size(), sizeof(address.sun_path) - 1);
    std::memcpy(address.sun_path, to.path.data(), length);
    const bool abstract = to.path.rfind('@', 0) == 0;
    if (abstract) address.sun_path[0] = '\0';
    return Wrap(address,
                offsetof(sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
  }
  sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(to.port)};
  if (inet_pton(AF_INET, to.host.c_str(), &v4.sin_addr) == 1) {
    return Wrap(v4, sizeof(v4));
  }
  sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(to.port)};
  inet_pton(AF_INET6, to.host.c_str(), &v6.sin6_addr);
  return Wrap(v6, sizeof(v6));
}

// Whether one of `events`, an error or the end is there by `until`.
bool Ready(int fd, short events, absl::Time until) {
  pollfd waiting = {.fd = fd, .events = events};
  const int64_t left = absl::ToInt64Milliseconds(until - absl::Now());
  return poll(&waiting, 1, std::max<int64_t>(left, 0)) > 0;
}

}  // namespace

absl::StatusOr<RawSocket> RawSocket::Connect(const ListeningSocket& to,
                                             absl::Duration within) {
  const SocketAddress address = AddressOf(to);
  RawSocket made(socket(address.storage.ss_family,
                        SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (made.fd_ < 0) return SystemError("socket");
  auto begin = [&] {
    return connect(made.fd_,
                   reinterpret_cast<const sockaddr*>(&address.storage),
                   address.length);
  };
  // A unix socket's backlog may be full for a while.
  int begun = -1;
  Becomes([&] { return (begun = begin()) == 0 || errno != EAGAIN; }, within);
  if (begun == 0) return made;
  if (errno != EINPROGRESS) return SystemError("connect");
  if (!Ready(made.fd_, POLLOUT, absl::Now() + within)) {
    return absl::UnavailableError("connect: nobody answers");
  }
  socklen_t length = sizeof(errno);
  getsockopt(made.fd_, SOL_SOCKET, SO_ERROR, &errno, &length);
  if (errno != 0) return SystemError("connect");
  return made;
}

RawSocket::~RawSocket() {
  if (fd_ >= 0) close(fd_);
}

bool RawSocket::Send(const std::string& bytes, absl::Duration within) {
  const absl::Time until = absl::Now() + within;
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) sent += n;
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n < 0 && !Ready(fd_, POLLOUT, until)) return false;
  }
  return true;
}

std::string RawSocket::Read(size_t most, absl::Duration within) {
  std::string bytes(most, '\0');
  if (!Ready(fd_, POLLIN, absl::Now() + within)) return "";
  const ssize_t n = recv(fd_, bytes.data(), most, MSG_DONTWAIT);
  bytes.resize(std::max<ssize_t>(n, 0));
  return bytes;
}

bool RawSocket::IsClosedWithin(absl::Duration within) {
  const absl::Time until = absl::Now() + within;
  while (Ready(fd_, POLLIN, until)) {
    char dropped[4096];
    const ssize_t n = recv(fd_, dropped, sizeof(dropped), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return true;
  }
  return false;
}

void RawSocket::FinishSending() { shutdown(fd_, SHUT_WR); }

void RawSocket::Reset() {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  close(std::exchange(fd_, -1));
}

RawListener::RawListener(int backlog)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd_, generic, length) == 0 && listen(fd_, backlog) == 0 &&
      getsockname(fd_, generic, &length) == 0) {
    port_ = ntohs(address.sin_port);
  }
}

RawListener::~RawListener() { close(fd_); }

absl::StatusOr<RawSocket> RawListener::Accept(absl::Duration within) {
  if (!Ready(fd_, POLLIN, absl::Now() + within)) {
    return absl::UnavailableError("nobody came");
  }
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return SystemError("accept");
  return RawSocket(fd);
}

}  // namespace testing
}  // namespace tensorferry
