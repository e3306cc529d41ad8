#include "base/user_code.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/exception_status.h"

namespace tensorferry {
namespace {

thread_local int depth = 0;  // of user code on this thread

}  // namespace

absl::Status RunUserCode(absl::string_view what,
                         absl::FunctionRef<void()> code) {
  ++depth;
  absl::Cleanup back = [] { --depth; };
  return CatchExceptions(what, code);
}

bool InUserCode() { return depth > 0; }

void UserExecutor::Run(Task task) {
  executor_->Run([task = std::move(task)]() mutable {
    TellUser("a callback", std::move(task));
  });
}

void UserExecutor::RunHere(Task task) {
  TellUser("a callback", std::move(task));
}

}  // namespace tensorferry
