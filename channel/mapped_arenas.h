#ifndef TENSORFERRY_CHANNEL_MAPPED_ARENAS_H_
#define TENSORFERRY_CHANNEL_MAPPED_ARENAS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "pool/arena.h"

namespace tensorferry {

// The arenas of a session's peer that are mapped here: each once, on however
// many channels it was handed over. Any thread.
class MappedArenas {
 public:
  // `most_bytes`: of all that are mapped at a time.
  explicit MappedArenas(uint64_t most_bytes) : most_bytes_(most_bytes) {}

  // Blocks. Statuses of PeerArena::Map; RESOURCE_EXHAUSTED too if there would
  // be too many bytes.
  absl::StatusOr<std::shared_ptr<PeerArena>> Map(UniqueFd descriptor,
                                                 uint64_t nbytes);

 private:
  using File = std::pair<dev_t, ino_t>;

  const uint64_t most_bytes_;
  absl::Mutex mu_;
  std::map<File, std::weak_ptr<PeerArena>> arenas_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_MAPPED_ARENAS_H_
