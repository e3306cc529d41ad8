#include "tests/testing/becomes.h"

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace tensorferry {
namespace testing {

bool Becomes(const std::function<bool()>& condition, absl::Duration within) {
  const absl::Time until = absl::Now() + within;
  absl::Notification never;
  while (!condition()) {
    if (absl::Now() >= until) return false;
    never.WaitForNotificationWithTimeout(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace testing
}  // namespace tensorferry
