#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_IPC_EVENT_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_IPC_EVENT_H_

#include <cuda_runtime_api.h>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {

// Events of several processes (event.shared is set). Whoever waits for a record
// of a process that died gets cudaErrorContextIsDestroyed.

// `event.last`, which is new, is its record.
void RecordSharedEvent(ApiCall& call, Event& event);
cudaError_t WaitForSharedEvent(ApiCall& call, Stream& stream, Event& event);
cudaError_t QuerySharedEvent(ApiCall& call, Event& event);
cudaError_t AwaitSharedEvent(ApiCall& call, Event& event);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_IPC_EVENT_H_
