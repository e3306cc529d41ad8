#ifndef TENSORFERRY_BASE_AWAIT_H_
#define TENSORFERRY_BASE_AWAIT_H_

#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "base/done.h"

namespace tensorferry {

// Runs `start`, which takes a Done<T>, and waits for that to be called. Never
// in a callback.
template <class T, class Start>
absl::StatusOr<T> Await(Start start) {
  absl::Notification ended;
  absl::StatusOr<T> result;
  std::move(start)(Done<T>([&](absl::StatusOr<T> r) {
    result = std::move(r);
    ended.Notify();
  }));
  ended.WaitForNotification();
  return result;
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_AWAIT_H_
