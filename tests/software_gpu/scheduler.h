#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_SCHEDULER_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_SCHEDULER_H_

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {

class Machine;
struct Operation;
using OperationPtr = std::shared_ptr<Operation>;

// Decides what runs next, and runs it on a thread of its own. All functions
// expect the machine's mutex held.
class Scheduler {
 public:
  explicit Scheduler(Machine& machine) : machine_(machine) {}

  void Set(const Schedule& schedule);
  const Schedule& schedule() const { return schedule_; }
  // Asks for an operation, and thereby for all that it waits for.
  void Demand(const OperationPtr& operation,
              std::chrono::milliseconds delay = {});
  // What may run has changed.
  void Wake();
  // Returns when the operation has run.
  void Await(std::unique_lock<std::mutex>& lock, OperationPtr operation);
  // Returns when somebody may have changed something, after a moment at most.
  void AwaitChange(std::unique_lock<std::mutex>& lock);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Demanded {
    OperationPtr operation;
    Time due;
  };

  void Loop();
  // The next step; null: nothing can run at `now`.
  OperationPtr Choose(Time now);
  std::vector<OperationPtr> Wanted(Time now);
  // What has to run first for `operation` to run; null: it cannot run now.
  OperationPtr FirstStepOf(OperationPtr operation);
  void Run(std::unique_lock<std::mutex>& lock, const OperationPtr& operation);
  cudaError_t ErrorBefore(const Operation& operation);
  // When work that is not due at `now` will be.
  Time NextTime(Time now) const;

  Machine& machine_;
  Schedule schedule_;
  std::mt19937_64 random_{1};
  std::vector<Demanded> demanded_;
  bool started_ = false;
  bool waits_for_process_ = false;  // nobody tells when that is over
  std::condition_variable work_;
  std::condition_variable ran_;
};

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_SCHEDULER_H_
