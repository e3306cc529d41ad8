#include "tests/testing/held_executor.h"

#include <utility>

#include "absl/time/time.h"

namespace tensorferry {
namespace testing {

void HeldExecutor::Run(Task task) {
  absl::MutexLock lock(&mu_);
  tasks_.push_back(std::move(task));
}

bool HeldExecutor::Await(size_t tasks) {
  absl::MutexLock lock(&mu_);
  auto enough = [&] { return tasks_.size() >= tasks; };
  return mu_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30));
}

bool HeldExecutor::RunOne() {
  if (!AwaitOne()) return false;
  Task task;
  {
    absl::MutexLock lock(&mu_);
    task = std::move(tasks_.front());
    tasks_.pop_front();
  }
  std::move(task)();
  return true;
}

void HeldExecutor::RunAll() {
  std::deque<Task> tasks;
  {
    absl::MutexLock lock(&mu_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) std::move(task)();
}

void HeldExecutor::RunNewest() {
  Task task;
  {
    absl::MutexLock lock(&mu_);
    task = std::move(tasks_.back());
    tasks_.pop_back();
  }
  std::move(task)();
}

int HeldExecutor::waiting() {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(tasks_.size());
}

}  // namespace testing
}  // namespace tensorferry
