#ifndef TENSORFERRY_TESTS_CUDA_ENDED_H_
#define TENSORFERRY_TESTS_CUDA_ENDED_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/done.h"

namespace tensorferry {
namespace testing {

// The end of an operation, which may come after the test has given up.
template <class T>
class Ended {
 public:
  Done<T> Callback() {
    return [state = state_](absl::StatusOr<T> result) {
      state->result = std::move(result);
      state->came.Notify();
    };
  }
  bool came() const { return state_->came.HasBeenNotified(); }
  const absl::StatusOr<T>& Wait() {
    state_->came.WaitForNotification();
    return state_->result;
  }

 private:
  struct State {
    absl::Notification came;
    absl::StatusOr<T> result = absl::UnknownError("not ended");
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Whether `condition`, which nobody announces, comes true before it is clear
// that it never will.
template <class Condition>
bool Becomes(const Condition& condition) {
  const absl::Time until = absl::Now() + absl::Seconds(60);
  while (!condition()) {
    if (absl::Now() > until) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_ENDED_H_
