#ifndef TENSORFERRY_CATALOG_PROGRESS_H_
#define TENSORFERRY_CATALOG_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/loop.h"
#include "session/session.h"

namespace tensorferry {

// How far a transfer is. Counted by session: other transfers of the same
// session and direction count too.
struct Progress {
  uint64_t bytes = 0;
  uint64_t total = 0;
};

// Called about five times a second while a transfer is under way, one call at a
// time, and once more at the end if that is a good one; never afterwards. It
// may block, and then misses calls. What it throws is dropped.
using ProgressCallback = std::function<void(Progress)>;

// Calls it, and drops what it throws.
void TellProgress(const ProgressCallback& callback, Progress progress);

// Watches a session's counters for as long as it lives. Must not be destroyed
// by its own callback.
class ProgressWatch {
 public:
  enum class Direction { kSent, kReceived };
  ProgressWatch(std::weak_ptr<Session> session, Direction direction,
                uint64_t total, ProgressCallback callback,
                Clock* clock = Clock::Real());
  ~ProgressWatch();

 private:
  void Tick();
  uint64_t Counted(const Session& session) const;

  const std::weak_ptr<Session> session_;
  const Direction direction_;
  const uint64_t total_;
  const ProgressCallback callback_;
  uint64_t before_ = 0;  // bytes that the session had moved at the start
  Loop loop_;            // the last member: its end is that of the ticks
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PROGRESS_H_
