#include "tests/cuda/carry.h"

#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>

namespace tensorferry {
namespace testing {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;

void Copy(std::byte* to, const std::byte* from, uint64_t nbytes,
          CUDAStream stream) {
  const CUDAStreamGuard guard(stream);
  ASSERT_EQ(cudaMemcpyAsync(to, from, nbytes, cudaMemcpyDefault, stream),
            cudaSuccess);
}

}  // namespace

void WaitFor(c10::Stream earlier, c10::Stream later) {
  at::cuda::CUDAEvent event;
  event.record(CUDAStream(earlier));
  event.block(CUDAStream(later));
}

void Carry(const WriteBuffers& from, const ReadBuffers& to) {
  ASSERT_EQ(from.regions().size(), to.regions().size());
  for (size_t i = 0; i < from.regions().size(); ++i) {
    const Region& source = from.regions()[i];
    const Region& target = to.regions()[i];
    ASSERT_EQ(source.nbytes, target.nbytes);
    if (source.nbytes == 0) continue;
    const bool from_cpu = source.device().is_cpu();
    const bool to_cpu = target.device().is_cpu();
    if (from_cpu && to_cpu) {
      std::memcpy(target.data, source.data, source.nbytes);
    } else if (from_cpu || to_cpu) {
      Copy(target.data, source.data, source.nbytes,
           CUDAStream(from_cpu ? target.stream : source.stream));
    } else {
      WaitFor(source.stream, target.stream);
      Copy(target.data, source.data, source.nbytes, CUDAStream(target.stream));
      WaitFor(target.stream, source.stream);
    }
  }
}

// From ordinary memory: of pinned memory libtorch asks whether it is free
// again, and the host would learn how far the stream is.
at::Tensor MadeOn(CUDAStream stream, const at::Tensor& host) {
  const CUDAStreamGuard guard(stream);
  at::Tensor made = at::empty_like(host, host.options().device(at::kCUDA));
  EXPECT_EQ(cudaMemcpyAsync(made.mutable_data_ptr(), host.const_data_ptr(),
                            host.nbytes(), cudaMemcpyHostToDevice, stream),
            cudaSuccess);
  return made;
}

at::Tensor ReadOn(CUDAStream stream, const at::Tensor& tensor) {
  const CUDAStreamGuard guard(stream);
  return tensor.cpu();
}

}  // namespace testing
}  // namespace tensorferry
