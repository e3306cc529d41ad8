// Streams, events, host functions. Events of several processes are in
// runtime_ipc.cc.

#include <cuda_runtime_api.h>

#include <chrono>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/ipc_event.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

// The answer of a query to work that may have run.
cudaError_t Query(ApiCall& call, const OperationPtr& operation) {
  Scheduler& scheduler = call.machine.scheduler;
  if (!operation) return cudaSuccess;
  if (operation->done) {
    call.machine.HostLearns(operation->clock);
    return operation->result;
  }
  if (++operation->unready_answers >= scheduler.schedule().unready_answers) {
    scheduler.Demand(operation);
  }
  return cudaErrorNotReady;
}

// A host function runs without being asked for.
cudaError_t EnqueueHostFunction(ApiCall& call, cudaStream_t handle,
                                std::function<void(cudaError_t)> function) {
  Stream* stream = call.machine.Find(handle, call.device);
  if (!stream) return cudaErrorInvalidResourceHandle;
  OperationPtr operation = call.machine.Enqueue(*stream, call.function);
  operation->host_function = std::move(function);
  Scheduler& scheduler = call.machine.scheduler;
  scheduler.Demand(operation, scheduler.schedule().host_function_delay);
  return cudaSuccess;
}

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                         int priority) {
  return CallApi("cudaStreamCreateWithPriority", [&](ApiCall& call) {
    const bool blocking = !(flags & cudaStreamNonBlocking);
    *stream = reinterpret_cast<cudaStream_t>(
        call.machine.NewStream(call.device, blocking, priority));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return CallApi("cudaStreamDestroy", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    // What is in it runs on.
    stream->destroyed = true;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return CallApi("cudaStreamGetPriority", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    *priority = stream->priority;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return CallApi("cudaStreamSynchronize", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    return call.AwaitStream(*stream);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return CallApi("cudaStreamQuery", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const cudaError_t error = Query(call, stream->last);
    if (error != cudaErrorNotReady) stream->error = cudaSuccess;
    return error;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle,
                                cudaEvent_t event_handle, unsigned) {
  return CallApi("cudaStreamWaitEvent", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(stream_handle, call.device);
    Event* event = call.machine.Find(event_handle);
    if (!stream || !event) return cudaErrorInvalidResourceHandle;
    if (event->shared) return WaitForSharedEvent(call, *stream, *event);
    if (!event->last) return cudaSuccess;
    stream->clock.Join(event->last->clock);
    // Also when it has run: its error goes on in this stream.
    call.machine.Enqueue(*stream, call.function)->after = event->last;
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function,
                               void* argument) {
  return CallApi("cudaLaunchHostFunc", [&](ApiCall& call) {
    return EnqueueHostFunction(call, stream, [=](cudaError_t error) {
      if (error == cudaSuccess) function(argument);
    });
  });
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream,
                                  cudaStreamCallback_t function, void* argument,
                                  unsigned /*flags*/) {
  return CallApi("cudaStreamAddCallback", [&](ApiCall& call) {
    return EnqueueHostFunction(call, stream, [=](cudaError_t error) {
      function(stream, error, argument);
    });
  });
}

// Graphs are not modelled: nothing is ever captured.
cudaError_t cudaStreamIsCapturing(cudaStream_t,
                                  cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t,
                                     cudaStreamCaptureStatus* status,
                                     unsigned long long*,  // NOLINT: CUDA's
                                     cudaGraph_t*, const cudaGraphNode_t**,
                                     const cudaGraphEdgeData**, size_t*) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  return CallApi("cudaEventCreateWithFlags", [&](ApiCall& call) {
    const bool timed = !(flags & cudaEventDisableTiming);
    if ((flags & cudaEventInterprocess) && timed) return cudaErrorInvalidValue;
    Event* event = call.machine.NewEvent(call.device, flags);
    if (flags & cudaEventInterprocess) {
      event->shared = call.machine.NewSharedEvent(event->shared_offset);
      if (!event->shared) return cudaErrorMemoryAllocation;
    }
    *handle = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return CallApi("cudaEventDestroy", [&](ApiCall& call) {
    Event* event = call.machine.Find(handle);
    if (!event) return cudaErrorInvalidResourceHandle;
    event->destroyed = true;
    event->last = nullptr;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle,
                            cudaStream_t stream_handle) {
  return CallApi("cudaEventRecord", [&](ApiCall& call) {
    Stream* stream = call.machine.Find(stream_handle, call.device);
    Event* event = call.machine.Find(event_handle);
    if (!stream || !event) return cudaErrorInvalidResourceHandle;
    if (stream->device != event->device && !event->opened) {
      call.machine.Report(Finding::Kind::kInvalidHandle,
                          "an event of one device recorded on another");
      return cudaErrorInvalidResourceHandle;
    }
    event->last = call.machine.Enqueue(*stream, call.function);
    if (event->shared) RecordSharedEvent(call, *event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream,
                                     unsigned /*flags*/) {
  return cudaEventRecord(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return CallApi("cudaEventQuery", [&](ApiCall& call) {
    Event* event = call.machine.Find(handle);
    if (!event) return cudaErrorInvalidResourceHandle;
    return event->shared ? QuerySharedEvent(call, *event)
                         : Query(call, event->last);
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return CallApi("cudaEventSynchronize", [&](ApiCall& call) {
    Event* event = call.machine.Find(handle);
    if (!event) return cudaErrorInvalidResourceHandle;
    if (event->shared) return AwaitSharedEvent(call, *event);
    const OperationPtr last = event->last;
    call.Await(last);
    return last ? last->result : cudaSuccess;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start,
                                 cudaEvent_t end) {
  return CallApi("cudaEventElapsedTime", [&](ApiCall& call) {
    Event* first = call.machine.Find(start);
    Event* second = call.machine.Find(end);
    const bool timed =
        first && second && first->last && second->last &&
        !((first->flags | second->flags) & cudaEventDisableTiming);
    if (!timed) return cudaErrorInvalidResourceHandle;
    if (!first->last->done || !second->last->done) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(
                        second->last->finished - first->last->finished)
                        .count();
    return cudaSuccess;
  });
}
