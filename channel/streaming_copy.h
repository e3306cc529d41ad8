#ifndef TENSORFERRY_CHANNEL_STREAMING_COPY_H_
#define TENSORFERRY_CHANNEL_STREAMING_COPY_H_

#include <cstdint>

#include "channel/copy_reader.h"

namespace tensorferry {

// kPassed: a copy goes past the caches where the processor can; the target's
// lines are not read first, and what others have in the caches stays.
enum class Caches { kUsed, kPassed };

// memcpy for memory that this process does not look at afterwards. `reader`,
// unless it is null, reads all of it along.
void StreamingCopy(void* to, const void* from, uint64_t nbytes, Caches caches,
                   CopyReader* reader = nullptr);

// From where on it goes past the caches best, if nobody looks at the target
// soon, and if somebody reads all of it at once: out of the cache, if it fits
// there.
inline constexpr uint64_t kPastCaches = uint64_t{1} << 20;
inline constexpr uint64_t kPastCachesIfRead = uint64_t{4} << 20;

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_STREAMING_COPY_H_
