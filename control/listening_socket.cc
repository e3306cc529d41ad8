#include "control/listening_socket.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"
#include "control/address.h"

namespace tensorferry {
namespace {

absl::Status NotListening(absl::string_view address, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

absl::StatusOr<ListeningSocket> ListenUnix(const std::string& address,
                                           mode_t mode) {
  FERRY_RETURN_IF_ERROR(CheckNobodyListens(address));
  const std::string path = PathOf(address);
  struct stat there = {};
  if (lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
    return NotListening(address, "a file that is no socket is there");
  }
  unlink(path.c_str());
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) {
    return CannotListen(address);
  }
  SocketFile file(path);
  // Before listen nobody can connect, whatever the mode is until chmod.
  if (chmod(path.c_str(), mode) != 0 || listen(fd.get(), SOMAXCONN) != 0) {
    return CannotListen(address);
  }
  return ListeningSocket{std::move(fd), std::move(file), address};
}

absl::StatusOr<ListeningSocket> ListenTcp(const std::string& address) {
  const HostPort parts = *SplitHostPort(address);
  const std::string host(parts.host), port(parts.port);
  addrinfo hints = {}, *found = nullptr;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) return NotListening(address, gai_strerror(error));
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  const addrinfo* first = found;
  // A name that is of both families is listened to as most callers look it up.
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET) {
      first = one;
      break;
    }
  }
  UniqueFd fd(
      socket(first->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  // Not SO_REUSEPORT: two processes on one port would each get half of the
  // callers.
  if (!fd.valid() ||
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
      bind(fd.get(), first->ai_addr, first->ai_addrlen) != 0 ||
      listen(fd.get(), SOMAXCONN) != 0) {
    return CannotListen(address);
  }
  const std::string with_port = absl::StrCat(
      address.substr(0, address.size() - port.size()), PortOf(fd.get()));
  return ListeningSocket{std::move(fd), {}, with_port};
}

}  // namespace

absl::Status CannotListen(absl::string_view address) {
  const int error = errno;
  if (error == EADDRINUSE) return NotListening(address, "it is in use");
  const absl::Status status = NotListening(address, std::strerror(error));
  if (error != EMFILE && error != ENFILE && error != ENOMEM) return status;
  return absl::ResourceExhaustedError(status.message());
}

SocketFile::SocketFile(std::string path) : path_(std::move(path)) {
  if (lstat(path_.c_str(), &made_) != 0) path_.clear();
}

SocketFile::~SocketFile() {
  struct stat there = {};
  if (!path_.empty() && lstat(path_.c_str(), &there) == 0 &&
      there.st_dev == made_.st_dev && there.st_ino == made_.st_ino) {
    unlink(path_.c_str());
  }
}

absl::StatusOr<ListeningSocket> ListenAt(const std::string& address,
                                         mode_t mode) {
  return absl::StartsWith(address, "unix:") ? ListenUnix(address, mode)
                                            : ListenTcp(address);
}

}  // namespace tensorferry
