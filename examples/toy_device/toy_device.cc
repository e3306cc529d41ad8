#include "examples/toy_device/toy_device.h"

#include <ATen/ops/empty.h>
#include <c10/core/Allocator.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>
#include <c10/core/TensorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace toy {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMemory = size_t{1} << 32;  // what the device has

// Without bytes there may be no memory.
void Copy(void* to, const void* from, size_t nbytes) {
  if (nbytes > 0) std::memcpy(to, from, nbytes);
}

class Allocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t nbytes) override {
    TORCH_CHECK_WITH(OutOfMemoryError, nbytes <= kMemory, "toy: ", nbytes,
                     " bytes, the device has ", kMemory);
    const size_t whole = (nbytes + kAlignment - 1) / kAlignment * kAlignment;
    void* memory =
        nbytes == 0 ? nullptr : std::aligned_alloc(kAlignment, whole);
    return {memory, memory, &std::free, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t nbytes) const override {
    Copy(to, from, nbytes);
  }
};

Allocator* TheAllocator() {
  static auto* allocator = new Allocator;
  return allocator;
}

REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, TheAllocator());

// There is one stream, and no pool of them.
struct Guard final
    : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  c10::Device getDevice() const override { return kDevice; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return getStream(device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return getStream(stream.device());
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

}  // namespace

at::Tensor ToDevice(const at::Tensor& host) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), host.nbytes(),
                       TheAllocator());
  Copy(storage.mutable_data(), host.contiguous().const_data_ptr(),
       host.nbytes());
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage),
      c10::DispatchKeySet(
          c10::computeDispatchKey(host.scalar_type(), c10::kStrided, kDevice)),
      host.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(host.sizes());
  return tensor;
}

at::Tensor ToHost(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), "toy: not contiguous");
  at::Tensor host = at::empty(tensor.sizes(), tensor.scalar_type());
  Copy(host.mutable_data_ptr(), tensor.const_data_ptr(), tensor.nbytes());
  return host;
}

}  // namespace toy
