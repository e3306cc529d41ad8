#ifndef TENSORFERRY_BASE_DONE_H_
#define TENSORFERRY_BASE_DONE_H_

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

namespace tensorferry {

// The end of an asynchronous operation. Runs exactly once, never under a lock
// of ours, and is the fence: once it runs, nobody touches the operation's
// buffers any more.
template <class T>
using Done = absl::AnyInvocable<void(absl::StatusOr<T>) &&>;

using DoneStatus = absl::AnyInvocable<void(absl::Status) &&>;

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_DONE_H_
