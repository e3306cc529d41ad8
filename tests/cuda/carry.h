#ifndef TENSORFERRY_TESTS_CUDA_CARRY_H_
#define TENSORFERRY_TESTS_CUDA_CARRY_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <c10/cuda/CUDAStream.h>

#include "serialization/buffers.h"

namespace tensorferry {
namespace testing {

// What a channel does: the bytes of each region to the same region of the other
// side, in the order of the streams of both. Waits only where one side is the
// CPU.
void Carry(const WriteBuffers& from, const ReadBuffers& to);

// All that comes onto `later` waits for what is on `earlier` now.
void WaitFor(c10::Stream earlier, c10::Stream later);

// A tensor on the device of `stream` that holds the values of `host`, which is
// contiguous, once the stream has come so far. It was allocated there, and
// nothing waits.
at::Tensor MadeOn(c10::cuda::CUDAStream stream, const at::Tensor& host);

// What `tensor` holds once `stream` has come so far.
at::Tensor ReadOn(c10::cuda::CUDAStream stream, const at::Tensor& tensor);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_CARRY_H_
