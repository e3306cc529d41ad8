#ifndef TENSORFERRY_CHANNEL_STREAMING_COPY_H_
#define TENSORFERRY_CHANNEL_STREAMING_COPY_H_

#include <cstdint>

namespace tensorferry {

// memcpy for memory that this process does not look at afterwards. From
// kStreamingBytes on it goes past the caches where the processor can: the
// target's lines are not read first, and what others have in the caches stays.
inline constexpr uint64_t kStreamingBytes = uint64_t{1} << 20;
void StreamingCopy(void* to, const void* from, uint64_t nbytes);

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_STREAMING_COPY_H_
