#ifndef TENSORFERRY_POOL_POOL_BUDGET_H_
#define TENSORFERRY_POOL_POOL_BUDGET_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace tensorferry {

// What several pools may hold together, in bytes. Thread-safe.
class PoolBudget {
 public:
  explicit PoolBudget(uint64_t bytes) : bytes_(bytes) {}
  PoolBudget(const PoolBudget&) = delete;
  PoolBudget& operator=(const PoolBudget&) = delete;

  // A quarter of the memory that this process may use: of the machine's, or of
  // its control group's limit.
  static uint64_t Usual();

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
