#include "channel/streaming_copy.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tensorferry {
namespace {

// What is read is copied out of the nearest cache but one.
constexpr uint64_t kReadAtOnce = uint64_t{32} << 10;

void Copy(char* to, const char* from, uint64_t nbytes) {
  std::memcpy(to, from, nbytes);
}

#if defined(__x86_64__)

constexpr uint64_t kVector = 32, kBlock = 4 * kVector;

bool CanStream() {
  static const bool can = __builtin_cpu_supports("avx2");
  return can;
}

// `to` at a multiple of kVector, `nbytes` one of kBlock.
__attribute__((target("avx2"))) void StreamBlocks(char* to, const char* from,
                                                  uint64_t nbytes) {
  for (uint64_t at = 0; at < nbytes; at += kBlock) {
    const auto* source = reinterpret_cast<const __m256i*>(from + at);
    auto* target = reinterpret_cast<__m256i*>(to + at);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(target, a);
    _mm256_stream_si256(target + 1, b);
    _mm256_stream_si256(target + 2, c);
    _mm256_stream_si256(target + 3, d);
  }
  // Before anybody is told that the bytes are there.
  _mm_sfence();
}

void Stream(char* to, const char* from, uint64_t nbytes) {
  const uint64_t head =
      std::min(nbytes, -reinterpret_cast<uintptr_t>(to) % kVector);
  std::memcpy(to, from, head);
  const uint64_t middle = (nbytes - head) / kBlock * kBlock;
  StreamBlocks(to + head, from + head, middle);
  std::memcpy(to + head + middle, from + head + middle, nbytes - head - middle);
}

#else

bool CanStream() { return false; }
void Stream(char*, const char*, uint64_t) {}

#endif

}  // namespace

void StreamingCopy(void* to, const void* from, uint64_t nbytes, uint64_t past,
                   CopyReader* reader) {
  const auto copy = nbytes < past || !CanStream() ? &Copy : &Stream;
  auto* const target = static_cast<char*>(to);
  const auto* const source = static_cast<const char*>(from);
  if (reader == nullptr) return copy(target, source, nbytes);
  for (uint64_t at = 0; at < nbytes; at += kReadAtOnce) {
    const uint64_t part = std::min(kReadAtOnce, nbytes - at);
    reader->Read(reinterpret_cast<const std::byte*>(source + at), part);
    copy(target + at, source + at, part);
  }
}

}  // namespace tensorferry
