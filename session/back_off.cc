#include "session/back_off.h"

#include <algorithm>
#include <cmath>

namespace tensorferry {
namespace {

bool MayComeBack(const absl::Status& failure) {
  return absl::IsUnavailable(failure) || absl::IsDeadlineExceeded(failure) ||
         absl::IsResourceExhausted(failure);
}

}  // namespace

std::optional<absl::Duration> BackOff::After(const absl::Status& failure) {
  if (!MayComeBack(failure)) return std::nullopt;
  ++failures_;
  if (options_.attempts > 0 && failures_ >= options_.attempts) {
    return std::nullopt;
  }
  // In doubles: growth without end is infinite there, and then the longest.
  const double grown = absl::ToDoubleSeconds(options_.first) *
                       std::pow(options_.growth, failures_ - 1);
  const double pause = std::min(grown, absl::ToDoubleSeconds(options_.longest));
  std::uniform_real_distribution<double> jitter(-options_.jitter,
                                                options_.jitter);
  return absl::Seconds(pause * (1 + jitter(random_)));
}

}  // namespace tensorferry
