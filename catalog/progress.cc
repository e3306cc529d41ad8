#include "catalog/progress.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "base/user_code.h"

namespace tensorferry {
namespace {

constexpr absl::Duration kEvery = absl::Milliseconds(200);

}  // namespace

void TellProgress(const ProgressCallback& callback, Progress progress) {
  RunUserCode("a progress callback", [&] { callback(progress); }).IgnoreError();
}

ProgressWatch::ProgressWatch(std::weak_ptr<Session> session,
                             Direction direction, uint64_t total,
                             ProgressCallback callback, Clock* clock)
    : session_(std::move(session)),
      direction_(direction),
      total_(total),
      callback_(std::move(callback)),
      loop_(clock) {
  if (auto alive = session_.lock()) before_ = Counted(*alive);
  loop_.RunAt(clock->Now() + kEvery, [this] { Tick(); });
}

ProgressWatch::~ProgressWatch() = default;

uint64_t ProgressWatch::Counted(const Session& session) const {
  const LinkCounters counters = session.counters();
  return direction_ == Direction::kSent ? counters.bytes_sent
                                        : counters.bytes_received;
}

void ProgressWatch::Tick() {
  uint64_t now = 0;
  {
    const std::shared_ptr<Session> session = session_.lock();
    if (session == nullptr) return;
    now = Counted(*session);
  }
  TellProgress(callback_, {std::min(now - before_, total_), total_});
  loop_.RunAt(loop_.clock()->Now() + kEvery, [this] { Tick(); });
}

}  // namespace tensorferry
