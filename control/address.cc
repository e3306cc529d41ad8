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

struct HostPort {
  absl::string_view host, port;
  bool bracketed = false;
};

// Splits at the port's colon; nothing if there is none.
std::optional<HostPort> Split(absl::string_view address) {
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

absl::Status InUse(absl::string_view address, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
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
  std::optional<HostPort> parts = Split(address);
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

absl::Status CheckNobodyListens(absl::string_view address) {
  absl::string_view path = address;
  if (!absl::ConsumePrefix(&path, "unix:")) return absl::OkStatus();
  if (absl::StartsWith(path, "///")) path.remove_prefix(2);
  sockaddr_un there = {};
  there.sun_family = AF_UNIX;
  path.copy(there.sun_path, kMaxUnixPathBytes);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int error = errno;
  if (fd >= 0) {
    int connected =
        connect(fd, reinterpret_cast<sockaddr*>(&there), sizeof(there));
    error = connected == 0 ? 0 : errno;
    close(fd);
  }
  if (error == ENOENT || error == ECONNREFUSED) return absl::OkStatus();
  // EAGAIN: more callers wait there than are let in.
  if (error == 0 || error == EAGAIN) {
    return InUse(address, "the address is in use");
  }
  return InUse(address, std::strerror(error));
}

bool IsLoopback(absl::string_view address) {
  if (!ValidateControlAddress(address).ok()) return false;
  if (absl::StartsWith(address, "unix:")) return true;
  std::optional<HostPort> parts = Split(address);
  if (parts->bracketed) return IsLoopback6(*ParseIpv6(parts->host));
  if (absl::EqualsIgnoreCase(parts->host, "localhost")) return true;
  std::optional<in_addr> ipv4 = ParseIpv4(parts->host);
  return ipv4.has_value() && IsLoopback4(*ipv4);
}

}  // namespace tensorferry
