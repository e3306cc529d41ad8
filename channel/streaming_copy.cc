#include "channel/streaming_copy.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tensorferry {
namespace {

// What is read was just copied, and is in the nearest cache but one, mostly.
constexpr uint64_t kReadAtOnce = uint64_t{256} << 10;

void Copy(char* to, const char* from, uint64_t nbytes) {
  std::memcpy(to, from, nbytes);
}

#if defined(__x86_64__)

constexpr uint64_t kVector = 32, kBlock = 4 * kVector;
// A processor fetches ahead within a page and no further, so that several at a
// time come faster than one after the other.
constexpr uint64_t kPage = 4096, kPagesAtOnce = 4;

bool CanStream() {
  static const bool can = __builtin_cpu_supports("avx2");
  return can;
}

// `to` at a multiple of kVector, as below.
__attribute__((target("avx2"))) inline void StreamBlock(char* to,
                                                        const char* from) {
  const auto* source = reinterpret_cast<const __m256i*>(from);
  auto* target = reinterpret_cast<__m256i*>(to);
  const __m256i a = _mm256_loadu_si256(source);
  const __m256i b = _mm256_loadu_si256(source + 1);
  const __m256i c = _mm256_loadu_si256(source + 2);
  const __m256i d = _mm256_loadu_si256(source + 3);
  _mm256_stream_si256(target, a);
  _mm256_stream_si256(target + 1, b);
  _mm256_stream_si256(target + 2, c);
  _mm256_stream_si256(target + 3, d);
}

__attribute__((target("avx2"))) void StreamPages(char* to, const char* from) {
  for (uint64_t in_page = 0; in_page < kPage; in_page += kBlock) {
    for (uint64_t page = 0; page < kPagesAtOnce; ++page) {
      const uint64_t at = page * kPage + in_page;
      StreamBlock(to + at, from + at);
    }
  }
}

// The bytes that it copied: all but less than a block.
__attribute__((target("avx2"))) uint64_t StreamBlocks(char* to,
                                                      const char* from,
                                                      uint64_t nbytes) {
  uint64_t at = 0;
  for (; nbytes - at >= kPagesAtOnce * kPage; at += kPagesAtOnce * kPage) {
    StreamPages(to + at, from + at);
  }
  for (; nbytes - at >= kBlock; at += kBlock) StreamBlock(to + at, from + at);
  // Before anybody is told that the bytes are there.
  _mm_sfence();
  return at;
}

void Stream(char* to, const char* from, uint64_t nbytes) {
  uint64_t at = std::min(nbytes, -reinterpret_cast<uintptr_t>(to) % kVector);
  std::memcpy(to, from, at);
  at += StreamBlocks(to + at, from + at, nbytes - at);
  std::memcpy(to + at, from + at, nbytes - at);
}

#else

bool CanStream() { return false; }
void Stream(char*, const char*, uint64_t) {}

#endif

}  // namespace

void StreamingCopy(void* to, const void* from, uint64_t nbytes, Caches caches,
                   CopyReader* reader) {
  const auto copy = caches == Caches::kPassed && CanStream() ? &Stream : &Copy;
  auto* const target = static_cast<char*>(to);
  const auto* const source = static_cast<const char*>(from);
  if (reader == nullptr) return copy(target, source, nbytes);
  for (uint64_t at = 0; at < nbytes; at += kReadAtOnce) {
    const uint64_t part = std::min(kReadAtOnce, nbytes - at);
    copy(target + at, source + at, part);
    reader->Read(reinterpret_cast<const std::byte*>(source + at), part);
  }
}

}  // namespace tensorferry
