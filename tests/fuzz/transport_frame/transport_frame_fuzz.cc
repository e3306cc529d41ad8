// A stream of frames against what is expected: complete frames come out as they
// went in, and nothing is written beside the buffers. The first bytes say what
// is expected and in which pieces the stream comes; a zero ends them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "transport/frame.h"

namespace {

constexpr uint8_t kUntouched = 0xa5;

struct Guarded {
  explicit Guarded(size_t n) : size(n), bytes(n + 16, kUntouched) {}
  uint8_t* data() { return bytes.data() + 8; }
  void Check() const {
    for (size_t i = 0; i < 8; ++i) {
      if (bytes[i] != kUntouched || bytes[size + 8 + i] != kUntouched) {
        std::abort();
      }
    }
  }
  size_t size;
  std::vector<uint8_t> bytes;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  constexpr uint64_t kLongest = 1 << 16;
  FrameReader reader(kLongest);
  std::deque<Guarded> buffers;
  size_t piece = 64;
  size_t at = 0;
  for (; at < size && data[at] != 0 && at < 64; ++at) {
    const uint8_t what = data[at];
    if (what < 0x80) {
      buffers.emplace_back(what - 1);
      reader.ExpectBytes(buffers.back().data(), what - 1);
    } else if (what < 0xf0) {
      reader.ExpectAny(what % 2 == 0 ? FrameKind::kPacket : FrameKind::kBytes);
    } else {
      piece = what - 0xef;
    }
  }
  if (at < size) ++at;
  while (at < size && reader.expecting()) {
    size_t left = std::min(piece, size - at);
    iovec places[4];
    const int count = reader.Next(places, 4);
    if (count == 0) {
      auto taken = reader.Take(data + at, left);
      if (!taken.ok()) break;
      if (*taken > left) std::abort();
      at += *taken;
    } else {
      size_t put = 0;
      for (int i = 0; i < count && left > 0; ++i) {
        const size_t bytes = std::min(left, places[i].iov_len);
        std::memcpy(places[i].iov_base, data + at + put, bytes);
        put += bytes;
        left -= bytes;
      }
      at += put;
      if (!reader.Received(put).ok()) break;
    }
    while (reader.has_frame()) {
      if (reader.TakeFrame().size() > kLongest) std::abort();
    }
  }
  for (const Guarded& buffer : buffers) buffer.Check();
  return 0;
}
