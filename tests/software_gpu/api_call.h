#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_API_CALL_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_API_CALL_H_

#include <cuda_runtime_api.h>

#include <functional>
#include <mutex>

#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {

// One call of CUDA's API under way. It holds the machine's mutex.
struct ApiCall {
  const char* function;
  Machine& machine;
  std::unique_lock<std::mutex> lock;
  int device;  // the thread's current one

  // Waits for an operation, for all work of a stream, or of a device. The error
  // is the first that this work met, of which nobody was told.
  void Await(const OperationPtr& operation);
  cudaError_t AwaitStream(Stream& stream);
  cudaError_t AwaitDevice(int of_device);
  // The call is one that waits, should there be anything to wait for.
  void CountAsSynchronising();
};

// Runs `body`, the effect of `function`, unless that has to fail: a test asked
// for it, or the current device failed. Sets the thread's last error.
cudaError_t CallApi(const char* function,
                    const std::function<cudaError_t(ApiCall&)>& body);

// What cudaGetLastError and cudaPeekAtLastError speak of.
cudaError_t SetLastError(cudaError_t error);
cudaError_t TakeLastError();
cudaError_t LastError();

int CurrentDevice();
void SetCurrentDevice(int device);

// Runs a host function, in which no CUDA function may be called.
void RunAsHostFunction(const std::function<void()>& body);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_API_CALL_H_
