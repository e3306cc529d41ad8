#include "serialization/stream_fence.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {
namespace {

// Counts streams down.
class Fence {
 public:
  Fence(size_t streams, DoneStatus reached)
      : left_(streams), reached_(std::move(reached)) {}

  void OnReached(const absl::Status& status) {
    {
      absl::MutexLock lock(&mu_);
      first_error_.Update(status);
      if (--left_ != 0) return;
    }
    std::move(reached_)(std::move(first_error_));
  }

 private:
  absl::Mutex mu_;
  size_t left_ ABSL_GUARDED_BY(mu_);
  absl::Status first_error_;  // under mu_ until the last one has come
  DoneStatus reached_;
};

}  // namespace

std::vector<Region> OnePerStream(const std::vector<Region>& regions) {
  std::vector<Region> found;
  for (const Region& region : regions) {
    if (region.device().is_cpu()) continue;
    auto same = [&](const Region& other) {
      return other.stream == region.stream;
    };
    if (std::none_of(found.begin(), found.end(), same)) found.push_back(region);
  }
  return found;
}

// Converters look at a stream before they give memory on it, be it none.
absl::Status CheckStream(const Region& region) {
  if (region.device().is_cpu()) return absl::OkStatus();
  return region.converter
      ->AllocateToReceive(0, region.device(), region.stream,
                          /*source=*/nullptr)
      .status();
}

void WhenReached(const std::vector<Region>& regions, DoneStatus reached) {
  std::vector<Region> streams = OnePerStream(regions);
  if (streams.empty()) return std::move(reached)(absl::OkStatus());
  auto fence = std::make_shared<Fence>(streams.size(), std::move(reached));
  for (const Region& region : streams) {
    region.converter->WhenReached(region.stream, [fence](absl::Status status) {
      fence->OnReached(status);
    });
  }
}

}  // namespace tensorferry
