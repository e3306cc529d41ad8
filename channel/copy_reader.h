#ifndef TENSORFERRY_CHANNEL_COPY_READER_H_
#define TENSORFERRY_CHANNEL_COPY_READER_H_

#include <cstddef>
#include <cstdint>

namespace tensorferry {

// Which copy of a channel's: of what it sends to the peer's pool, or of what it
// receives, from the peer's memory or by the peer.
enum class CopyWay { kToPool, kFromPeer };

// Looks at bytes that are being copied, while they are in the caches if it can
// be had. Used by one thread at a time, be it one after the other.
class CopyReader {
 public:
  virtual ~CopyReader() = default;
  // The next bytes, in their order. Must not throw.
  virtual void Read(const std::byte* data, uint64_t nbytes) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_COPY_READER_H_
