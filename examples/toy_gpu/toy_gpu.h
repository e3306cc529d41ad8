#ifndef TENSORFERRY_EXAMPLES_TOY_GPU_TOY_GPU_H_
#define TENSORFERRY_EXAMPLES_TOY_GPU_TOY_GPU_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

// A device type that libtorch does not know and whose memory CUDA does: device
// N of it lies on cuda:N, and its streams are those of cuda:N.
namespace toy_gpu {

inline constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;

// The GPU that a device lies on, and the stream that a stream is.
c10::Device OnGpu(c10::Device device);
c10::Stream OnGpu(c10::Stream stream);

// A stream of the GPU's pool. Throws c10::Error.
c10::Stream StreamOf(c10::Device device, bool high_priority = false);

// Memory of the device. Throws c10::Error.
c10::DataPtr Allocate(c10::Device device, size_t nbytes);

// The same tensor there, and back; these wait. Contiguous tensors only: the toy
// has no kernels.
at::Tensor ToDevice(const at::Tensor& host, c10::Device device);
at::Tensor ToHost(const at::Tensor& tensor);

}  // namespace toy_gpu

#endif  // TENSORFERRY_EXAMPLES_TOY_GPU_TOY_GPU_H_
