#ifndef TENSORFERRY_TRANSPORT_DATA_ADDRESS_H_
#define TENSORFERRY_TRANSPORT_DATA_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// What the bytes of a connection travel over.
enum class Wire {
  kUnix,  // a unix socket of this host, between processes of one user
  kTcp,   // plain; the key is proved but nothing hides or signs what follows
  kTls,   // TLS 1.3 over TCP, with the session's key as its pre-shared key
};

absl::string_view ToString(Wire wire);  // "unix", "tcp", "tls"

// Where a hub takes connections: "unix://@name" (abstract), "unix:///run/x",
// "tcp://127.0.0.1:40411", "tls://[fe80::1]:40411". Hosts are numbers, never
// names. Secrets are no part of it.
struct DataAddress {
  Wire wire = Wire::kUnix;
  std::string host;  // of tcp and tls: IPv4 or IPv6 without brackets
  uint16_t port = 0;
  std::string path;  // of unix; "@..." is abstract

  friend bool operator==(const DataAddress&, const DataAddress&) = default;
};

// INVALID_ARGUMENT: none of the above forms.
absl::StatusOr<DataAddress> ParseDataAddress(absl::string_view text);
std::string ToString(const DataAddress& address);

// 127.0.0.0/8, ::1, their mapped forms, and every unix socket.
bool IsLoopback(const DataAddress& address);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_DATA_ADDRESS_H_
