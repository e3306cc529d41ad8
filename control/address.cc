#include "control/address.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/socket_ends.h"
#include "base/unique_fd.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxAddressBytes = 512;
constexpr size_t kMaxUnixPathBytes = 107;  // sockaddr_un's, less its end
constexpr size_t kMaxHostBytes = 253;      // of a DNS name

absl::Status NotAnAddress(absl::string_view address, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "control address \"", absl::Utf8SafeCEscape(address.substr(0, 64)),
      "\": ", why,
      "; want HOST:PORT, [IPV6]:PORT or unix:PATH, like \"127.0.0.1:4750\""));
}

bool IsPort(absl::string_view text) {
  if (text.empty() || text.size() > 5) return false;
  for (char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  int port = 0;
  return absl::SimpleAtoi(text, &port) && port <= 65535;
}

// inet_pton wants a terminated string; `text` has no NUL in it.
std::optional<in6_addr> ParseIpv6(absl::string_view text) {
  in6_addr parsed;
  if (inet_pton(AF_INET6, std::string(text).c_str(), &parsed) != 1) {
    return std::nullopt;
  }
  return parsed;
}

std::optional<in_addr> ParseIpv4(absl::string_view text) {
  in_addr parsed;
  if (inet_pton(AF_INET, std::string(text).c_str(), &parsed) != 1) {
    return std::nullopt;
  }
  return parsed;
}

bool IsLabel(absl::string_view label) {
  if (label.empty() || label.size() > 63) return false;
  if (label.front() == '-' || label.back() == '-') return false;
  for (char c : label) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_') return false;
  }
  return true;
}

// A name whose last label is a number is a misspelt IPv4 address.
bool IsHostName(absl::string_view host) {
  if (host.empty() || host.size() > kMaxHostBytes) return false;
  bool last_is_number = false;
  for (absl::string_view label : absl::StrSplit(host, '.')) {
    if (!IsLabel(label)) return false;
    last_is_number = true;
    for (char c : label) last_is_number &= absl::ascii_isdigit(c) != 0;
  }
  return !last_is_number;
}

absl::Status ValidateUnix(absl::string_view address, absl::string_view path) {
  if (path.empty()) return NotAnAddress(address, "names no file");
  if (absl::StartsWith(path, "//") && !absl::StartsWith(path, "///")) {
    return NotAnAddress(address, "names a host for a file of this one");
  }
  if (path.find_first_of("%?#") != absl::string_view::npos) {
    return NotAnAddress(address, "has one of %?# in its path");
  }
  if (path.size() > kMaxUnixPathBytes) {
    return NotAnAddress(address,
                        absl::StrCat(path.size(), " bytes of path, at most ",
                                     kMaxUnixPathBytes));
  }
  return absl::OkStatus();
}

bool IsLoopback4(in_addr address) {
  return (ntohl(address.s_addr) >> 24) == 127;
}

bool IsLoopback6(const in6_addr& address) {
  if (IN6_IS_ADDR_LOOPBACK(&address)) return true;
  return IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127;
}

// A connection to the socket at the path of a `unix:` address.
class Probe {
 public:
  explicit Probe(absl::string_view address)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_un there = {};
    there.sun_family = AF_UNIX;
    PathOf(address).copy(there.sun_path, kMaxUnixPathBytes);
    if (!fd_.valid() || connect(fd_.get(), reinterpret_cast<sockaddr*>(&there),
                                sizeof(there)) != 0) {
      error_ = errno;
    }
  }
  int fd() const { return fd_.get(); }
  int error() const { return error_; }  // 0: somebody listens
  bool nobody_listens() const {
    return error_ == ENOENT || error_ == ECONNREFUSED;
  }

 private:
  const UniqueFd fd_;
  int error_ = 0;
};

absl::Status InUse(absl::string_view address, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

absl::Status Untold(absl::string_view address, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot tell who listens on ", address, ": ", why));
}

}  // namespace

absl::Status ValidateControlAddress(absl::string_view address) {
  if (address.size() > kMaxAddressBytes) {
    return NotAnAddress(
        address,
        absl::StrCat(address.size(), " bytes, at most ", kMaxAddressBytes));
  }
  for (char c : address) {
    if (!absl::ascii_isgraph(c)) {
      return NotAnAddress(address, "has a blank or an unprintable character");
    }
  }
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, "unix:")) return ValidateUnix(address, path);
  std::optional<HostPort> parts = SplitHostPort(address);
  if (!parts) return NotAnAddress(address, "has no port");
  if (!IsPort(parts->port)) {
    return NotAnAddress(address, "its port is not a number up to 65535");
  }
  bool host_ok = parts->bracketed ? ParseIpv6(parts->host).has_value()
                                  : ParseIpv4(parts->host).has_value() ||
                                        IsHostName(parts->host);
  if (!host_ok) {
    return NotAnAddress(address, "its host is neither an address nor a name");
  }
  return absl::OkStatus();
}

std::optional<HostPort> SplitHostPort(absl::string_view address) {
  HostPort parts;
  if (absl::ConsumePrefix(&address, "[")) {
    size_t end = address.find("]:");
    if (end == absl::string_view::npos) return std::nullopt;
    return HostPort{address.substr(0, end), address.substr(end + 2), true};
  }
  size_t colon = address.find(':');
  if (colon == absl::string_view::npos) return std::nullopt;
  return HostPort{address.substr(0, colon), address.substr(colon + 1), false};
}

std::string PathOf(absl::string_view address) {
  absl::ConsumePrefix(&address, "unix:");
  if (absl::StartsWith(address, "///")) address.remove_prefix(2);
  return std::string(address);
}

absl::Status CheckNobodyListens(absl::string_view address) {
  if (!absl::StartsWith(address, "unix:")) return absl::OkStatus();
  const Probe probe(address);
  if (probe.nobody_listens()) return absl::OkStatus();
  // EAGAIN: more callers wait there than are let in.
  if (probe.error() == 0 || probe.error() == EAGAIN) {
    return InUse(address, "the address is in use");
  }
  return InUse(address, std::strerror(probe.error()));
}

absl::Status CheckListenerIsTrusted(absl::string_view address) {
  if (!absl::StartsWith(address, "unix:")) return absl::OkStatus();
  const Probe probe(address);
  if (probe.nobody_listens()) return absl::OkStatus();
  if (probe.error() != 0) return Untold(address, std::strerror(probe.error()));
  const std::optional<PeerProcess> listener = PeerOfSocket(probe.fd());
  if (!listener) return Untold(address, "the system does not say");
  if (listener->uid == geteuid() || listener->uid == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(address, " is listened on by user ", listener->uid,
                   ", who is neither root nor ourselves (", geteuid(), ")"));
}

bool IsLoopback(absl::string_view address) {
  if (!ValidateControlAddress(address).ok()) return false;
  if (absl::StartsWith(address, "unix:")) return true;
  std::optional<HostPort> parts = SplitHostPort(address);
  if (parts->bracketed) return IsLoopback6(*ParseIpv6(parts->host));
  if (absl::EqualsIgnoreCase(parts->host, "localhost")) return true;
  std::optional<in_addr> ipv4 = ParseIpv4(parts->host);
  return ipv4.has_value() && IsLoopback4(*ipv4);
}

}  // namespace tensorferry
