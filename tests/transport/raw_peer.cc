#include "tests/transport/raw_peer.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/handshake.h"
#include "transport/sockets.h"

namespace tensorferry {
namespace {

constexpr int kPatienceSeconds = 30;

template <class T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "raw peer: %s\n", value.status().ToString().c_str());
  std::abort();
}

bool RunHandshake(Handshake& handshake, RawSocket& socket) {
  while (true) {
    if (!socket.Send(OutputOf(handshake))) return false;
    if (handshake.done()) return true;
    const size_t wanted = handshake.wanted();
    const std::string bytes = socket.Read(wanted);
    if (bytes.size() < wanted) return false;
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    if (!handshake.Receive({data, bytes.size()}).ok()) return false;
  }
}

std::string CountedString(absl::string_view text) {
  return absl::StrCat("\xbd", std::string(1, static_cast<char>(text.size())),
                      std::string(text));
}

std::string Bytes(std::initializer_list<int> bytes) {
  std::string out;
  for (int byte : bytes) out.push_back(static_cast<char>(byte));
  return out;
}

std::string Cpu() {
  return absl::StrCat(Bytes({0xb9, 2}), CountedString("cpu"), Bytes({0}));
}

std::string BasicChannel() {
  return absl::StrCat(Bytes({0xbb, 1}), CountedString("basic"),
                      Bytes({0xbb, 1}), Cpu(), CountedString("any"));
}

}  // namespace

RawSocket::RawSocket(UniqueFd fd) : fd_(std::move(fd)) {
  const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

bool RawSocket::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawSocket::SendWith(const std::vector<int>& descriptors,
                         absl::string_view bytes) {
  const size_t room = descriptors.size() * sizeof(int);
  std::vector<char> control(CMSG_SPACE(room));
  iovec buffer{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(room);
  std::memcpy(CMSG_DATA(rights), descriptors.data(), room);
  const ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  if (sent <= 0) return false;
  return Send(bytes.substr(static_cast<size_t>(sent)));
}

std::string RawSocket::Read(size_t size) {
  std::string out;
  char buffer[4096];
  while (out.size() < size) {
    const ssize_t got =
        recv(fd_.get(), buffer, std::min(sizeof(buffer), size - out.size()), 0);
    if (got <= 0) break;
    out.append(buffer, static_cast<size_t>(got));
  }
  return out;
}

bool RawSocket::WaitUntilClosed() {
  char buffer[4096];
  while (true) {
    const ssize_t got = recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (got == 0) return true;
    if (got < 0) return errno != EAGAIN;
  }
}

bool RawSocket::IsQuiet() {
  char byte;
  return recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         errno == EAGAIN;
}

void RawSocket::FinishSending() { shutdown(fd_.get(), SHUT_WR); }

void RawSocket::Reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  fd_.Reset();
}

RawSocket RawConnect(const std::string& address) {
  const SocketAddress to = ToSocketAddress(OrDie(ParseDataAddress(address)));
  UniqueFd fd(socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), to.get(), to.length) != 0) {
    std::fprintf(stderr, "raw peer: connect %s: %s\n", address.c_str(),
                 std::strerror(errno));
    std::abort();
  }
  return RawSocket(std::move(fd));
}

std::optional<RawSocket> RawDial(const std::string& address,
                                 const SessionKey& session, uint64_t number) {
  RawSocket socket = RawConnect(address);
  const Wire wire = OrDie(ParseDataAddress(address)).wire;
  ClientHandshake handshake(session, wire, number, OrDie(RandomNonce()));
  if (!RunHandshake(handshake, socket)) return std::nullopt;
  return socket;
}

RawListener::RawListener(Wire wire) : wire_(wire) {
  DataAddress address{.wire = wire, .host = "127.0.0.1"};
  if (wire == Wire::kUnix) {
    address = {.wire = wire,
               .path = absl::StrCat("@raw-listener/", getpid(), "/",
                                    reinterpret_cast<uintptr_t>(this))};
  }
  fd_ = OrDie(ListenInRange(address, 0, 0));
  address_ = ToString(address);
}

RawSocket RawListener::Accept() {
  pollfd waiting{.fd = fd_.get(), .events = POLLIN};
  if (poll(&waiting, 1, kPatienceSeconds * 1000) != 1) std::abort();
  return RawSocket(
      UniqueFd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
}

std::optional<RawSocket> RawListener::AcceptSession(const SessionKey& session) {
  RawSocket socket = Accept();
  ServerHandshake handshake(
      wire_,
      [&](const std::string&) {
        return std::variant<std::string, Refusal>(session.key);
      },
      [](const std::string&, uint64_t) { return Refusal::kNone; });
  if (!RunHandshake(handshake, socket)) return std::nullopt;
  return socket;
}

bool RawListener::HasMore() {
  pollfd waiting{.fd = fd_.get(), .events = POLLIN};
  return poll(&waiting, 1, 0) == 1;
}

std::string OutputOf(Handshake& handshake) {
  const auto output = handshake.output();
  std::string bytes(reinterpret_cast<const char*>(output.data()),
                    output.size());
  handshake.Sent(bytes.size());
  return bytes;
}

std::string RawFrame(FrameKind kind, absl::string_view body) {
  return absl::StrCat(RawHeader(static_cast<uint8_t>(kind), body.size()),
                      std::string(body));
}

std::string RawHeader(uint8_t kind, uint64_t length) {
  std::string out;
  for (int i = 0; i < 7; ++i) {
    out.push_back(static_cast<char>(length >> (8 * i)));
  }
  out.push_back(static_cast<char>(kind));
  return out;
}

std::string SpontaneousHello() {
  return absl::StrCat(Bytes({0xb8, 0, 0xb9, 1}), CountedString(""));
}

std::string RequestedHello(uint16_t id) {
  return Bytes({0xb8, 1, 0xb9, 1, 0x81, id & 0xff, id >> 8});
}

std::string GoodBrochure() {
  return absl::StrCat(Bytes({0xb9, 2, 0xbb, 1}), CountedString("ferry"),
                      CountedString("tensorferry/1"), BasicChannel());
}

std::string GoodAnswer() {
  return absl::StrCat(
      Bytes({0xb9, 7}), CountedString("ferry"), CountedString("session"),
      Bytes({0xbb, 1, 1, 5}), CountedString("tensorferry/1"), Bytes({0xbb, 1}),
      CountedString("basic"), Bytes({0xbc, 8, 6, 0, 0, 0, 0, 0, 0, 0}),
      BasicChannel(), Bytes({0xbb, 1, 0xba, 2}), Cpu(), Cpu(),
      CountedString("basic"));
}

std::string GoodDescriptor(uint8_t payload) {
  return absl::StrCat(Bytes({0xb9, 3}), CountedString("m"),
                      Bytes({0xba, 1, 0xb9, 2, payload}), CountedString(""),
                      Bytes({0xba, 0}));
}

}  // namespace tensorferry
