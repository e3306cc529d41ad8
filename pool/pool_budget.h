#ifndef TENSORFERRY_POOL_POOL_BUDGET_H_
#define TENSORFERRY_POOL_POOL_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"

namespace tensorferry {

// What several pools may hold together, in bytes. Thread-safe.
class PoolBudget {
 public:
  explicit PoolBudget(uint64_t bytes) : bytes_(bytes) {}
  PoolBudget(const PoolBudget&) = delete;
  PoolBudget& operator=(const PoolBudget&) = delete;

  // That of all who name no number: a quarter of the memory that this process
  // may use, the machine's or what its control group allows. A child after fork
  // has what its parent left.
  static std::shared_ptr<PoolBudget> OfProcess();

  // RESOURCE_EXHAUSTED: there are not so many left; with numbers.
  absl::Status Take(uint64_t bytes);
  void GiveBack(uint64_t bytes) { taken_.fetch_sub(bytes); }

  uint64_t bytes() const { return bytes_; }
  uint64_t taken() const { return taken_.load(); }

 private:
  const uint64_t bytes_;
  std::atomic<uint64_t> taken_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_POOL_POOL_BUDGET_H_
