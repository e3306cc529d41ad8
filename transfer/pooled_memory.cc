#include "transfer/pooled_memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/Device.h>

#include "absl/strings/str_cat.h"
#include "pool/arena.h"
#include "serialization/torch_errors.h"

namespace tensorferry {
namespace {

c10::DataPtr InBlock(BufferPool::Block block) {
  using Owner = std::shared_ptr<void>;
  auto* const owner = new Owner(std::move(block.owner));
  return {block.data, owner,
          [](void* context) { delete static_cast<Owner*>(context); },
          c10::Device(c10::kCPU)};
}

}  // namespace

absl::StatusOr<c10::DataPtr> PooledMemory::Take(size_t nbytes, size_t align) {
  return CatchTorchErrors(
      absl::StatusCode::kResourceExhausted,
      [&] { return absl::StrCat(nbytes, " bytes on the cpu"); },
      [&]() -> absl::StatusOr<c10::DataPtr> {
        if (nbytes >= kSmallestBlock && align <= kPageBytes) {
          absl::StatusOr<BufferPool::Block> block = pool_->Take(nbytes);
          if (block.ok()) return InBlock(*std::move(block));
          refused_ = block.status();
        }
        // It is slower, and nothing else.
        return c10::GetCPUAllocator()->allocate(nbytes);
      });
}

}  // namespace tensorferry
