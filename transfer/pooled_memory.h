#ifndef TENSORFERRY_TRANSFER_POOLED_MEMORY_H_
#define TENSORFERRY_TRANSFER_POOLED_MEMORY_H_

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/buffer_pool.h"
#include "serialization/device_converter.h"

namespace tensorferry {

// What one message is received into: blocks of its session's pool. Small
// storages, and those for which the pool has no room, get libtorch's memory
// instead. What was taken outlives it, and the session. One thread at a time.
class PooledMemory : public BufferSource {
 public:
  // What is smaller libtorch's allocator mostly has from what was freed before;
  // where exactly that ends was not measured.
  static constexpr uint64_t kSmallestBlock = uint64_t{256} << 10;

  explicit PooledMemory(std::shared_ptr<BufferPool> pool)
      : pool_(std::move(pool)) {}

  // May block from kSmallestBlock on.
  absl::StatusOr<c10::DataPtr> Take(size_t nbytes, size_t align) override;

  // Why the pool did not have all that it was asked for; OK: it had.
  const absl::Status& refused() const { return refused_; }

 private:
  const std::shared_ptr<BufferPool> pool_;
  absl::Status refused_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_POOLED_MEMORY_H_
