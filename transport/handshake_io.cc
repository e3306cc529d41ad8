#include "transport/handshake_io.h"

#include <sys/uio.h>

#include <algorithm>

#include "absl/status/status.h"

namespace tensorferry {
namespace {

using State = ByteStream::State;

// Whether all of it was taken.
absl::StatusOr<bool> SendOutput(Handshake& handshake, ByteStream& stream) {
  while (!handshake.output().empty()) {
    const auto output = handshake.output();
    const iovec buffer{const_cast<uint8_t*>(output.data()), output.size()};
    ByteStream::Result sent = stream.Write(&buffer, 1);
    if (sent.state == State::kBlocked) return false;
    if (sent.state != State::kOk) return sent.status;
    handshake.Sent(sent.bytes);
  }
  return true;
}

}  // namespace

absl::StatusOr<bool> Drive(Handshake& handshake, ByteStream& stream) {
  while (true) {
    auto sent = SendOutput(handshake, stream);
    if (!sent.ok() || !*sent || handshake.done()) return sent;
    uint8_t bytes[256];
    const iovec buffer{bytes, std::min(handshake.wanted(), sizeof(bytes))};
    ByteStream::Result got = stream.Read(&buffer, 1);
    if (got.state == State::kBlocked) return false;
    if (got.state == State::kFailed) return got.status;
    if (got.state == State::kEnd) {
      return absl::UnavailableError("closed during the handshake");
    }
    absl::Status status = handshake.Receive({bytes, got.bytes});
    if (!status.ok()) {
      // Tells the peer why, if it listens.
      SendOutput(handshake, stream).IgnoreError();
      return status;
    }
  }
}

absl::StatusOr<bool> ReadFully(ByteStream& stream, uint8_t* out, size_t size,
                               size_t& got) {
  while (got < size) {
    const iovec buffer{out + got, size - got};
    ByteStream::Result read = stream.Read(&buffer, 1);
    if (read.state == State::kBlocked) return false;
    if (read.state == State::kFailed) return read.status;
    if (read.state == State::kEnd) {
      return absl::UnavailableError("closed before its first frame");
    }
    got += read.bytes;
  }
  return true;
}

}  // namespace tensorferry
