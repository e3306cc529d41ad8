#ifndef TENSORFERRY_TESTS_CUDA_ENDED_H_
#define TENSORFERRY_TESTS_CUDA_ENDED_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
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

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_ENDED_H_
