#include "tests/software_gpu/ipc_event.h"

#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <optional>

namespace tensorferry::software_gpu {
namespace {

// A record of a shared event, as it was when somebody looked.
struct Record {
  uint64_t number = 0;  // 0: never recorded
  bool done = false;
  pid_t recorder = 0;
  VectorClock clock;
};

Record Last(SharedEvent& event) {
  std::lock_guard<SharedMutex> lock(event.mutex);
  return {.number = event.recorded,
          .done = event.done >= event.recorded,
          .recorder = event.recorder,
          .clock = event.clock.Get()};
}

// The outcome of a record of perhaps another process; nullopt: not yet.
std::optional<cudaError_t> Outcome(SharedEvent& event, const Record& record) {
  std::lock_guard<SharedMutex> lock(event.mutex);
  if (event.done >= record.number) return cudaSuccess;
  if (Lives(record.recorder)) return std::nullopt;
  return cudaErrorContextIsDestroyed;
}

bool IsOwn(const Event& event, const Record& record) {
  return event.last && event.last_number == record.number;
}

}  // namespace

void RecordSharedEvent(ApiCall& call, Event& event) {
  std::shared_ptr<SharedEvent> shared = event.shared;
  std::lock_guard<SharedMutex> lock(shared->mutex);
  const uint64_t number = ++shared->recorded;
  shared->recorder = getpid();
  shared->clock.Set(event.last->clock);
  event.last_number = number;
  event.last->finish = [shared, number] {
    std::lock_guard<SharedMutex> lock(shared->mutex);
    shared->done = std::max(shared->done, number);
  };
  // Another process may wait, which cannot ask.
  Scheduler& scheduler = call.machine.scheduler;
  scheduler.Demand(event.last, scheduler.schedule().host_function_delay);
}

cudaError_t WaitForSharedEvent(ApiCall& call, Stream& stream, Event& event) {
  const Record record = Last(*event.shared);
  if (record.number == 0) return cudaSuccess;
  stream.clock.Join(record.clock);
  OperationPtr wait = call.machine.Enqueue(stream, call.function);
  if (IsOwn(event, record)) {
    wait->after = event.last;
  } else {
    wait->remote = [shared = event.shared, record] {
      return Outcome(*shared, record);
    };
  }
  return cudaSuccess;
}

cudaError_t QuerySharedEvent(ApiCall& call, Event& event) {
  const Record record = Last(*event.shared);
  const cudaError_t outcome =
      Outcome(*event.shared, record).value_or(cudaErrorNotReady);
  if (outcome == cudaSuccess) call.machine.HostLearns(record.clock);
  return outcome;
}

cudaError_t AwaitSharedEvent(ApiCall& call, Event& event) {
  call.CountAsSynchronising();
  const std::shared_ptr<SharedEvent> shared = event.shared;
  const Record record = Last(*shared);
  std::optional<cudaError_t> outcome;
  while (!(outcome = Outcome(*shared, record))) {
    call.machine.scheduler.AwaitChange(call.lock);
  }
  if (*outcome == cudaSuccess) call.machine.HostLearns(record.clock);
  return *outcome;
}

}  // namespace tensorferry::software_gpu
