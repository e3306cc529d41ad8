#ifndef TENSORFERRY_CHANNEL_CARRIED_H_
#define TENSORFERRY_CHANNEL_CARRIED_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace tensorferry {

// How the local channel moved one buffer.
struct Carried {
  const void* buffer = nullptr;  // where it lies or went on this side
  uint64_t length = 0;           // at least 1
  std::string strategy;          // "lease", "pool", "vm" or "stream"
  // Why the strategies before it were not used; OK: that one was, or there is
  // nothing to say (it was not lent, lies in no pool, or is small). One that
  // the system refused in a session is not tried again in it; memory that only
  // the sender may read is found out buffer by buffer, and what it cannot write
  // to arena by arena.
  absl::Status not_lease, not_pool, not_vm;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_CARRIED_H_
