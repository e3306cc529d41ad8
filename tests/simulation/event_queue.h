#ifndef TENSORFERRY_TESTS_SIMULATION_EVENT_QUEUE_H_
#define TENSORFERRY_TESTS_SIMULATION_EVENT_QUEUE_H_

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/scheduler.h"

namespace tensorferry {
namespace simulation {

// What the queue knows of a process: while it is stopped, what should happen in
// it waits.
struct ProcessState {
  bool stopped = false;
  std::vector<Task> held;
};

// All that will happen in a simulated world, by time and, at one time, in the
// order in which it was decided. Its clock jumps from event to event.
class EventQueue : public Clock {
 public:
  using Id = uint64_t;

  absl::Time Now() const override { return now_; }
  // Nobody waits in here.
  void WaitUntil(std::unique_lock<std::mutex>&, std::condition_variable&,
                 absl::Time) override {
    std::abort();
  }
  absl::Duration RealTimeUntil(absl::Time deadline) const override {
    return deadline - now_;
  }
  WakerId AddWaker(std::function<void()>) override { return 0; }
  void RemoveWaker(WakerId) override {}

  // Null: in no process, so that nothing stops it.
  Id At(absl::Time at, ProcessState* process, Task task);
  Id In(absl::Duration delay, ProcessState* process, Task task) {
    return At(now_ + delay, process, std::move(task));
  }
  void Cancel(Id id);
  // False: nothing is left that would happen until then, and it is then.
  bool RunNext(absl::Time until);
  void Resume(ProcessState* process);
  void Clear();

 private:
  struct Event {
    ProcessState* process;
    Task task;
  };
  absl::Time now_ = absl::UnixEpoch();
  Id next_ = 1;
  std::map<std::pair<absl::Time, Id>, Event> events_;
  absl::flat_hash_map<Id, absl::Time> times_;
};

// A loop of one process.
class SimulatedLoop final : public Scheduler {
 public:
  SimulatedLoop(EventQueue* queue, ProcessState* process)
      : queue_(queue), process_(process) {}

  void Post(Task task) override;
  TimerId RunAt(absl::Time at, Task task) override;
  void CancelTimer(TimerId id) override;
  Clock* clock() const override { return queue_; }
  int timers() const { return timers_; }  // set and not yet run

 private:
  EventQueue* const queue_;
  ProcessState* const process_;
  absl::flat_hash_map<TimerId, EventQueue::Id> ids_;
  TimerId next_ = 1;
  int timers_ = 0;
};

}  // namespace simulation
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SIMULATION_EVENT_QUEUE_H_
