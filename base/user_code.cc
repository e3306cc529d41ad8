#include "base/user_code.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/exception_status.h"

namespace tensorferry {
namespace {

thread_local int depth = 0;  // of user code on this thread

void Contain(Task& task) {
  RunUserCode("a callback", [&] { std::move(task)(); }).IgnoreError();
  // What the task holds may be the user's, too.
  RunUserCode("a callback", [&] { task = nullptr; }).IgnoreError();
}

}  // namespace

absl::Status RunUserCode(absl::string_view what,
                         absl::FunctionRef<void()> code) {
  ++depth;
  absl::Cleanup back = [] { --depth; };
  return CatchExceptions(what, code);
}

bool InUserCode() { return depth > 0; }

void UserExecutor::Run(Task task) {
  executor_->Run([task = std::move(task)]() mutable { Contain(task); });
}

void UserExecutor::RunHere(Task task) { Contain(task); }

}  // namespace tensorferry
