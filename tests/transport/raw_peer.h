#ifndef TENSORFERRY_TESTS_TRANSPORT_RAW_PEER_H_
#define TENSORFERRY_TESTS_TRANSPORT_RAW_PEER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "transport/data_address.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/session_key.h"

namespace tensorferry {

// A socket that says what a test wants. Blocking; every wait is bounded.
class RawSocket {
 public:
  explicit RawSocket(UniqueFd fd);

  bool Send(absl::string_view bytes);
  // Of a unix socket: all of them go with the first byte.
  bool SendWith(const std::vector<int>& descriptors, absl::string_view bytes);
  // What comes until `size` bytes are there, or the other end closes.
  std::string Read(size_t size);
  // Whether the other end closes or resets.
  bool WaitUntilClosed();
  // Whether nothing has come, the end neither.
  bool IsQuiet();
  void FinishSending();  // half a close
  void Reset();          // closes with RST

 private:
  UniqueFd fd_;
};

// Fails the process if nobody listens.
RawSocket RawConnect(const std::string& address);
// With the handshake of a client that knows `session`'s key; nullopt: turned
// away.
std::optional<RawSocket> RawDial(const std::string& address,
                                 const SessionKey& session, uint64_t number);

// A data port of the test's own.
class RawListener {
 public:
  explicit RawListener(Wire wire);
  const std::string& address() const { return address_; }
  RawSocket Accept();
  // With the handshake of a server that knows `session`'s key.
  std::optional<RawSocket> AcceptSession(const SessionKey& session);
  bool HasMore();  // whether somebody else has connected

 private:
  std::string address_;
  Wire wire_;
  UniqueFd fd_;
};

// What a handshake has to say now, which counts as said.
std::string OutputOf(Handshake& handshake);

std::string RawFrame(FrameKind kind, absl::string_view body);
std::string RawHeader(uint8_t kind, uint64_t length);

// Packets as an honest tensorpipe writes them, for a transport "ferry" and the
// channel "basic".
std::string SpontaneousHello();
std::string RequestedHello(uint16_t id);
std::string GoodBrochure();
std::string GoodAnswer();
// One payload of `payload` bytes, all below 128.
std::string GoodDescriptor(uint8_t payload);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_RAW_PEER_H_
