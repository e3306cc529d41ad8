#include "transport/data_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tensorferry {
namespace {

// An abstract name starts with a zero byte; a path ends with one.
constexpr size_t kLongestPath = sizeof(sockaddr_un{}.sun_path) - 1;
constexpr size_t kLongestText = 256;

absl::Status Bad(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "data address '", absl::CEscape(text.substr(0, kLongestText)), "': ", why,
      "; want unix://@NAME, unix:///PATH, tcp://HOST:PORT or "
      "tls://HOST:PORT with a number as host"));
}

absl::StatusOr<DataAddress> ParseUnix(absl::string_view text,
                                      absl::string_view path) {
  if (path.size() < 2 || (path[0] != '@' && path[0] != '/')) {
    return Bad(text, "neither @NAME nor an absolute path");
  }
  if (path.size() > kLongestPath) {
    return Bad(text, absl::StrCat(path.size(), " bytes of path, at most ",
                                  kLongestPath));
  }
  for (char c : path) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return Bad(text, "bytes in the path that cannot be printed");
    }
  }
  return DataAddress{.wire = Wire::kUnix, .path = std::string(path)};
}

bool ParsePort(absl::string_view text, uint16_t& port) {
  uint32_t number = 0;
  // SimpleAtoi would take a sign and spaces too.
  for (char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
  }
  if (text.size() > 5 || !absl::SimpleAtoi(text, &number) || number == 0 ||
      number > 65535) {
    return false;
  }
  port = static_cast<uint16_t>(number);
  return true;
}

// A scope id ("%eth0") means something on one host only: refused.
absl::StatusOr<DataAddress> ParseHostPort(Wire wire, absl::string_view text,
                                          absl::string_view host_port) {
  const bool bracketed = absl::ConsumePrefix(&host_port, "[");
  const size_t end = bracketed ? host_port.find("]:") : host_port.find(':');
  if (end == absl::string_view::npos) return Bad(text, "no port");
  DataAddress address{.wire = wire,
                      .host = std::string(host_port.substr(0, end))};
  if (!ParsePort(host_port.substr(end + (bracketed ? 2 : 1)), address.port)) {
    return Bad(text, "no port from 1 to 65535");
  }
  unsigned char bytes[sizeof(in6_addr)];
  if (inet_pton(bracketed ? AF_INET6 : AF_INET, address.host.c_str(), bytes) !=
          1 ||
      address.host.size() != end) {
    return Bad(text, "the host is no number");
  }
  return address;
}

bool IsLoopback4(const in_addr& host) {
  return (ntohl(host.s_addr) >> 24) == 127;
}

}  // namespace

absl::string_view ToString(Wire wire) {
  switch (wire) {
    case Wire::kUnix:
      return "unix";
    case Wire::kTcp:
      return "tcp";
    case Wire::kTls:
      return "tls";
  }
  return "unknown";
}

absl::StatusOr<DataAddress> ParseDataAddress(absl::string_view text) {
  if (text.size() > kLongestText ||
      text.find('\0') != absl::string_view::npos) {
    return Bad(text, "too long, or a zero byte");
  }
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix://")) return ParseUnix(text, rest);
  if (absl::ConsumePrefix(&rest, "tcp://")) {
    return ParseHostPort(Wire::kTcp, text, rest);
  }
  if (absl::ConsumePrefix(&rest, "tls://")) {
    return ParseHostPort(Wire::kTls, text, rest);
  }
  return Bad(text, "unknown scheme");
}

std::string ToString(const DataAddress& address) {
  if (address.wire == Wire::kUnix) return absl::StrCat("unix://", address.path);
  const bool v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(ToString(address.wire), "://", v6 ? "[" : "",
                      address.host, v6 ? "]:" : ":", address.port);
}

bool IsLoopback(const DataAddress& address) {
  if (address.wire == Wire::kUnix) return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) {
    return IsLoopback4(v4);
  }
  in6_addr v6;
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_LOOPBACK(&v6)) return true;
  if (!IN6_IS_ADDR_V4MAPPED(&v6)) return false;
  std::memcpy(&v4, v6.s6_addr + 12, sizeof(v4));
  return IsLoopback4(v4);
}

}  // namespace tensorferry
