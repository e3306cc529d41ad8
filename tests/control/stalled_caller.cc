#include "tests/control/stalled_caller.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "tests/control/loopback.h"

namespace tensorferry {
namespace testing {
namespace {

enum FrameType : char { kData = 0, kHeaders = 1, kSettings = 4 };
constexpr char kEndStream = 1, kEndHeaders = 4;

std::string BigEndian(uint32_t value, int nbytes) {
  std::string bytes;
  while (nbytes-- > 0) bytes += static_cast<char>(value >> (8 * nbytes));
  return bytes;
}

std::string Frame(FrameType type, char flags, int stream,
                  absl::string_view payload) {
  return absl::StrCat(BigEndian(payload.size(), 3), std::string(1, type),
                      std::string(1, flags), BigEndian(stream, 4), payload);
}

// Written out, not looked up in a table (HPACK, RFC 7541, 6.2.2).
std::string Header(absl::string_view name, absl::string_view value) {
  return absl::StrCat(std::string(1, '\0'), BigEndian(name.size(), 1), name,
                      BigEndian(value.size(), 1), value);
}

}  // namespace

StalledCaller::StalledCaller(absl::string_view address)
    : fd_(ConnectToLoopback(address)) {
  constexpr uint16_t kInitialWindowSize = 4;
  Say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  Say(Frame(kSettings, 0, 0,
            absl::StrCat(BigEndian(kInitialWindowSize, 2), BigEndian(0, 4))));
}

void StalledCaller::Call(absl::string_view method) {
  const int stream = next_stream_;
  next_stream_ += 2;
  Say(Frame(
      kHeaders, kEndHeaders, stream,
      absl::StrCat(Header(":method", "POST"), Header(":scheme", "http"),
                   Header(":path", method), Header(":authority", "localhost"),
                   Header("te", "trailers"),
                   Header("content-type", "application/grpc"))));
  const std::string empty_message(5, '\0');
  Say(Frame(kData, kEndStream, stream, empty_message));
}

void StalledCaller::Say(absl::string_view bytes) {
  EXPECT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

}  // namespace testing
}  // namespace tensorferry
