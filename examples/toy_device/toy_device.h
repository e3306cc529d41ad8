#ifndef TENSORFERRY_EXAMPLES_TOY_DEVICE_TOY_DEVICE_H_
#define TENSORFERRY_EXAMPLES_TOY_DEVICE_TOY_DEVICE_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

// A device type that libtorch does not know, as its maker teaches it: an
// allocator and a guard for c10::DeviceType::PrivateUse1. It has one device,
// whose memory is host memory, and no stream but its default one.
namespace toy {

inline const c10::Device kDevice(c10::DeviceType::PrivateUse1, 0);

// The same tensor there, and back. Contiguous tensors only: the toy has no
// kernels.
at::Tensor ToDevice(const at::Tensor& host);
at::Tensor ToHost(const at::Tensor& tensor);

}  // namespace toy

#endif  // TENSORFERRY_EXAMPLES_TOY_DEVICE_TOY_DEVICE_H_
