#include "tests/software_gpu/scheduler.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

using std::chrono::steady_clock;

// How often another process's progress is looked at.
constexpr auto kPoll = std::chrono::microseconds(200);

}  // namespace

void Scheduler::Set(const Schedule& schedule) {
  schedule_ = schedule;
  random_.seed(schedule.seed);
  Wake();
}

void Scheduler::Demand(const OperationPtr& operation,
                       std::chrono::milliseconds delay) {
  if (!operation || operation->done) return;
  demanded_.push_back({operation, steady_clock::now() + delay});
  Wake();
}

void Scheduler::Wake() {
  if (!started_) {
    started_ = true;
    std::thread([this] { Loop(); }).detach();
  }
  work_.notify_all();
}

void Scheduler::Await(std::unique_lock<std::mutex>& lock,
                      OperationPtr operation) {
  if (!operation) return;
  Demand(operation);
  ran_.wait(lock, [&] { return operation->done; });
  machine_.HostLearns(operation->clock);
}

void Scheduler::AwaitChange(std::unique_lock<std::mutex>& lock) {
  ran_.wait_for(lock, kPoll);
}

void Scheduler::Loop() {
  std::unique_lock<std::mutex> lock(machine_.mutex);
  for (;;) {
    waits_for_process_ = false;
    const Time now = steady_clock::now();
    if (OperationPtr next = Choose(now)) {
      Run(lock, next);
    } else if (waits_for_process_) {
      work_.wait_for(lock, kPoll);
    } else if (const Time next_time = NextTime(now); next_time == Time::max()) {
      work_.wait(lock);
    } else {
      work_.wait_until(lock, next_time);
    }
  }
}

OperationPtr Scheduler::Choose(Time now) {
  std::vector<OperationPtr> wanted = Wanted(now);
  const bool oldest = schedule_.order == Schedule::Order::kOldestFirst;
  std::sort(wanted.begin(), wanted.end(), [oldest](auto& a, auto& b) {
    return oldest ? a->number < b->number : a->number > b->number;
  });
  if (schedule_.order == Schedule::Order::kRandom) {
    std::shuffle(wanted.begin(), wanted.end(), random_);
  }
  for (const OperationPtr& operation : wanted) {
    if (OperationPtr step = FirstStepOf(operation)) return step;
  }
  return nullptr;
}

std::vector<OperationPtr> Scheduler::Wanted(Time now) {
  std::erase_if(demanded_, [](auto& each) { return each.operation->done; });
  std::vector<OperationPtr> wanted;
  for (const Demanded& each : demanded_) {
    if (each.due <= now) wanted.push_back(each.operation);
  }
  // At random, work runs unasked as well, but only beside work that is asked
  // for: a machine that is left alone stands still.
  const bool all =
      schedule_.order == Schedule::Order::kRandom && !wanted.empty();
  for (const auto& stream : machine_.streams) {
    if (stream->queue.empty()) continue;
    const bool quiet = schedule_.run_unasked_after &&
                       stream->last_call + *schedule_.run_unasked_after <= now;
    if (all || quiet) wanted.push_back(stream->queue.back());
  }
  return wanted;
}

OperationPtr Scheduler::FirstStepOf(OperationPtr operation) {
  for (;;) {
    const Stream& stream = *operation->stream;
    if (stream.held || stream.queue.empty()) return nullptr;
    OperationPtr front = stream.queue.front();
    if (front->after && !front->after->done) {
      operation = front->after;
      continue;
    }
    if (front->remote) {
      const std::optional<cudaError_t> answer = front->remote();
      if (!answer) {
        waits_for_process_ = true;
        return nullptr;
      }
      front->result = *answer;
      front->remote = nullptr;
    }
    return front;
  }
}

void Scheduler::Run(std::unique_lock<std::mutex>& lock,
                    const OperationPtr& operation) {
  Stream& stream = *operation->stream;
  Device& device = machine_.devices[stream.device];
  const cudaError_t error = ErrorBefore(*operation);
  for (const AllocationPtr& memory : operation->memory) {
    if (!memory->freed && !(memory->log && memory->log->freed)) continue;
    machine_.Report(Finding::Kind::kUseAfterFree,
                    operation->name + " ran after its memory was freed");
    if (device.fault == cudaSuccess) device.fault = cudaErrorIllegalAddress;
  }
  const bool runs = error == cudaSuccess && device.fault == cudaSuccess &&
                    operation->fault == cudaSuccess;
  if (operation->host_function) machine_.HostLearns(operation->clock);
  auto run = std::move(operation->run);
  auto host_function = std::move(operation->host_function);
  lock.unlock();
  if (host_function) RunAsHostFunction([&] { host_function(error); });
  if (run && runs) run();
  // Here, as what they hold may call CUDA when it is destroyed.
  run = nullptr;
  host_function = nullptr;
  lock.lock();
  if (operation->finish) operation->finish();
  if (operation->fault != cudaSuccess) device.fault = operation->fault;
  operation->result = error;
  stream.error = error;
  operation->finished = steady_clock::now();
  operation->done = true;
  // The event that names the operation may live on.
  operation->finish = nullptr;
  operation->after = nullptr;
  operation->memory.clear();
  stream.queue.pop_front();
  ran_.notify_all();
}

cudaError_t Scheduler::ErrorBefore(const Operation& operation) {
  const cudaError_t fault = machine_.devices[operation.stream->device].fault;
  if (fault != cudaSuccess) return fault;
  if (operation.stream->error != cudaSuccess) return operation.stream->error;
  if (operation.result != cudaSuccess) return operation.result;
  return operation.after ? operation.after->result : cudaSuccess;
}

Scheduler::Time Scheduler::NextTime(Time now) const {
  Time next = Time::max();
  for (const Demanded& each : demanded_) {
    if (each.due > now) next = std::min(next, each.due);
  }
  if (!schedule_.run_unasked_after) return next;
  for (const auto& stream : machine_.streams) {
    if (stream->queue.empty() || stream->held) continue;
    const Time due = stream->last_call + *schedule_.run_unasked_after;
    if (due > now) next = std::min(next, due);
  }
  return next;
}

}  // namespace tensorferry::software_gpu
