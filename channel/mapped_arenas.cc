#include "channel/mapped_arenas.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {

absl::StatusOr<std::shared_ptr<PeerArena>> MappedArenas::Map(
    UniqueFd descriptor, uint64_t nbytes) {
  struct stat file = {};
  if (fstat(descriptor.get(), &file) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peer's arena: ", std::strerror(errno)));
  }
  absl::MutexLock lock(&mu_);
  uint64_t mapped = 0;
  for (auto entry = arenas_.begin(); entry != arenas_.end();) {
    const std::shared_ptr<PeerArena> arena = entry->second.lock();
    mapped += arena == nullptr ? 0 : arena->nbytes();
    entry = arena == nullptr ? arenas_.erase(entry) : std::next(entry);
  }
  std::weak_ptr<PeerArena>& known = arenas_[{file.st_dev, file.st_ino}];
  if (std::shared_ptr<PeerArena> arena = known.lock()) {
    if (arena->nbytes() == nbytes) return arena;
    return absl::InvalidArgumentError(
        absl::StrCat("the peer's arena has ", arena->nbytes(), " bytes, not ",
                     nbytes, " as it says"));
  }
  if (nbytes > most_bytes_ - std::min(mapped, most_bytes_)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the peer's arena of ", nbytes, " bytes beside others of ",
                     mapped, ": at most ", most_bytes_, " are mapped"));
  }
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<PeerArena> arena,
                         PeerArena::Map(std::move(descriptor), nbytes));
  known = arena;
  return arena;
}

}  // namespace tensorferry
