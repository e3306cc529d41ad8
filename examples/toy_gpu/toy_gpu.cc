#include "examples/toy_gpu/toy_gpu.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <utility>

namespace toy_gpu {
namespace {

c10::Device OfGpu(c10::Device gpu) { return {kType, gpu.index()}; }
c10::Stream OfGpu(c10::Stream stream) {
  return c10::Stream(c10::Stream::UNSAFE, OfGpu(stream.device()), stream.id());
}

// Asks CUDA's for all that it is asked.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kType;

  static c10::impl::VirtualGuardImpl Gpu() {
    return c10::impl::VirtualGuardImpl(c10::kCUDA);
  }

  c10::DeviceType type() const override { return kType; }
  c10::Device getDevice() const override { return OfGpu(Gpu().getDevice()); }
  c10::Device exchangeDevice(c10::Device device) const override {
    return OfGpu(Gpu().exchangeDevice(OnGpu(device)));
  }
  void setDevice(c10::Device device) const override {
    Gpu().setDevice(OnGpu(device));
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    Gpu().uncheckedSetDevice(OnGpu(device));
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return Gpu().deviceCount();
  }
  c10::Stream getStream(c10::Device device) const override {
    return OfGpu(Gpu().getStream(OnGpu(device)));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return OfGpu(Gpu().getDefaultStream(OnGpu(device)));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device,
                                      bool high_priority) const override {
    return OfGpu(Gpu().getStreamFromGlobalPool(OnGpu(device), high_priority));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return OfGpu(Gpu().exchangeStream(OnGpu(stream)));
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// On the current device.
class Allocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t nbytes) override {
    at::globalContext().lazyInitDevice(c10::kCUDA);
    c10::DataPtr memory =
        c10::cuda::CUDACachingAllocator::get()->allocate(nbytes);
    memory.unsafe_set_device(OfGpu(memory.device()));
    return memory;
  }
  void copy_data(void* to, const void* from, size_t nbytes) const override {
    c10::cuda::CUDACachingAllocator::get()->copy_data(to, from, nbytes);
  }
};

Allocator* TheAllocator() {
  static auto* allocator = new Allocator;
  return allocator;
}

REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, TheAllocator());

void CopyAndWait(void* to, const void* from, size_t nbytes) {
  if (nbytes == 0) return;
  C10_CUDA_CHECK(cudaMemcpy(to, from, nbytes, cudaMemcpyDefault));
}

}  // namespace

c10::Device OnGpu(c10::Device device) { return {c10::kCUDA, device.index()}; }

c10::Stream OnGpu(c10::Stream stream) {
  return c10::Stream(c10::Stream::UNSAFE, OnGpu(stream.device()), stream.id());
}

c10::Stream StreamOf(c10::Device device, bool high_priority) {
  return Guard().getStreamFromGlobalPool(device, high_priority);
}

c10::DataPtr Allocate(c10::Device device, size_t nbytes) {
  const c10::cuda::CUDAGuard guard(OnGpu(device));
  return TheAllocator()->allocate(nbytes);
}

at::Tensor ToDevice(const at::Tensor& host, c10::Device device) {
  c10::DataPtr memory = Allocate(device, host.nbytes());
  CopyAndWait(memory.get(), host.contiguous().const_data_ptr(), host.nbytes());
  c10::Storage storage(c10::Storage::use_byte_size_t(), host.nbytes(),
                       std::move(memory));
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage),
      c10::DispatchKeySet(
          c10::computeDispatchKey(host.scalar_type(), c10::kStrided, device)),
      host.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(host.sizes());
  return tensor;
}

at::Tensor ToHost(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), "toy: not contiguous");
  at::Tensor host = at::empty(tensor.sizes(), tensor.scalar_type());
  CopyAndWait(host.mutable_data_ptr(), tensor.const_data_ptr(),
              tensor.nbytes());
  return host;
}

}  // namespace toy_gpu
