#include "tests/software_gpu/api_call.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tensorferry::software_gpu {
namespace {

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local bool in_host_function = false;

void AwaitRelease(ApiCall& call) {
  Machine& machine = call.machine;
  if (!machine.held_functions.contains(call.function)) return;
  ++machine.held_calls;
  machine.calls_released.wait(call.lock, [&] {
    return !machine.held_functions.contains(call.function);
  });
  --machine.held_calls;
}

// What the test asked this call to fail with.
cudaError_t InjectedError(Machine& machine, const char* function) {
  auto& failures = machine.failures;
  for (auto failure = failures.begin(); failure != failures.end(); ++failure) {
    if (failure->function != function || --failure->in > 0) continue;
    const cudaError_t error = failure->error;
    failures.erase(failure);
    return error;
  }
  return cudaSuccess;
}

cudaError_t ErrorOf(ApiCall& call) {
  if (in_host_function) {
    call.machine.Report(
        Finding::Kind::kHostFunction,
        std::string(call.function) + " called in a host function");
    return cudaErrorNotPermitted;
  }
  const cudaError_t injected = InjectedError(call.machine, call.function);
  if (injected != cudaSuccess) return injected;
  if (call.machine.devices.empty()) return cudaErrorNoDevice;
  return call.machine.devices[call.device].fault;
}

}  // namespace

void ApiCall::CountAsSynchronising() {
  ++machine.synchronising_calls[function];
}

void ApiCall::Await(const OperationPtr& operation) {
  CountAsSynchronising();
  machine.scheduler.Await(lock, operation);
}

cudaError_t ApiCall::AwaitStream(Stream& stream) {
  Await(stream.last);
  const cudaError_t error = std::exchange(stream.error, cudaSuccess);
  const cudaError_t fault = machine.devices[stream.device].fault;
  return fault != cudaSuccess ? fault : error;
}

cudaError_t ApiCall::AwaitDevice(int of_device) {
  CountAsSynchronising();
  std::vector<Stream*> streams;
  for (const auto& stream : machine.streams) {
    if (stream->device == of_device) streams.push_back(stream.get());
  }
  // All are asked for before one is waited for.
  for (Stream* stream : streams) machine.scheduler.Demand(stream->last);
  cudaError_t error = cudaSuccess;
  for (Stream* stream : streams) {
    machine.scheduler.Await(lock, stream->last);
    const cudaError_t its = std::exchange(stream->error, cudaSuccess);
    if (error == cudaSuccess) error = its;
  }
  const cudaError_t fault = machine.devices[of_device].fault;
  return fault != cudaSuccess ? fault : error;
}

cudaError_t CallApi(const char* function,
                    const std::function<cudaError_t(ApiCall&)>& body) {
  if (Machine::IsFork()) return SetLastError(cudaErrorInitializationError);
  Machine& machine = Machine::Get();
  ApiCall call{.function = function,
               .machine = machine,
               .lock = std::unique_lock<std::mutex>(machine.mutex),
               .device = current_device};
  AwaitRelease(call);
  ++machine.calls[function];
  const cudaError_t error = ErrorOf(call);
  return SetLastError(error == cudaSuccess ? body(call) : error);
}

cudaError_t SetLastError(cudaError_t error) {
  // "Not ready" is an answer, and success does not undo an error.
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

cudaError_t TakeLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t LastError() { return last_error; }

int CurrentDevice() { return current_device; }
void SetCurrentDevice(int device) { current_device = device; }

void RunAsHostFunction(const std::function<void()>& body) {
  in_host_function = true;
  body();
  in_host_function = false;
}

}  // namespace tensorferry::software_gpu
