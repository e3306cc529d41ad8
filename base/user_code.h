#ifndef TENSORFERRY_BASE_USER_CODE_H_
#define TENSORFERRY_BASE_USER_CODE_H_

#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/executor.h"

namespace tensorferry {

// Runs what a user gave us. What it throws becomes a status: "a handler threw:
// ...", see base/exception_status.h.
absl::Status RunUserCode(absl::string_view what,
                         absl::FunctionRef<void()> code);

// Runs a user's callback and drops it. What either throws is dropped.
template <class Callback, class... Args>
void TellUser(absl::string_view what, Callback callback, const Args&... args) {
  RunUserCode(what, [&] { std::move(callback)(args...); }).IgnoreError();
  // What it holds may be the user's, too.
  RunUserCode(what, [&] { callback = nullptr; }).IgnoreError();
}

// Whether this thread runs a user's code for us, and so must not wait for what
// may wait for that code.
bool InUserCode();

// Runs every task as a user's code on another executor. What reaches it from a
// task is contained and dropped: whoever can tell somebody has done so before.
class UserExecutor final : public Executor {
 public:
  // `executor` must outlive this; tasks do not need this any more.
  explicit UserExecutor(Executor* executor) : executor_(executor) {}
  void Run(Task task) override;
  void RunHere(Task task) override;

 private:
  Executor* const executor_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_USER_CODE_H_
