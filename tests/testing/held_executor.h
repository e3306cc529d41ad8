#ifndef TENSORFERRY_TESTS_TESTING_HELD_EXECUTOR_H_
#define TENSORFERRY_TESTS_TESTING_HELD_EXECUTOR_H_

#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/executor.h"

namespace tensorferry {
namespace testing {

// An executor that runs its tasks when the test says so.
class HeldExecutor : public Executor {
 public:
  ~HeldExecutor() override { RunAll(); }
  void Run(Task task) override;
  // Waits for one, or so many. False after half a minute.
  bool AwaitOne() { return Await(1); }
  bool Await(size_t tasks);
  // The same, and runs it.
  bool RunOne();
  void RunAll();
  void RunNewest();  // of those that wait; none is an error
  int waiting();

 private:
  absl::Mutex mu_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_HELD_EXECUTOR_H_
