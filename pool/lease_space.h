#ifndef TENSORFERRY_POOL_LEASE_SPACE_H_
#define TENSORFERRY_POOL_LEASE_SPACE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

// Ranges of addresses to receive into, where memory of a peer's can be put
// (LentArena::MapAt) instead of a copy. Any thread. Ranges outlive it.
class LeaseSpace : public std::enable_shared_from_this<LeaseSpace> {
 public:
  struct Range {
    std::byte* data = nullptr;    // at a multiple of 2 MiB
    std::shared_ptr<void> owner;  // the last copy gives it back
    std::shared_ptr<void> open;   // Has knows it as long as a copy is there
  };

  // Of the process: each takes up to three of the mappings that the system lets
  // it have (vm.max_map_count, mostly 65,530).
  static constexpr size_t kMostRanges = 8192;

  static std::shared_ptr<LeaseSpace> Create();

  // How many more ranges the process may have now.
  static size_t Left();

  // `nbytes`, not 0: memory like any other, which has no pages yet.
  // RESOURCE_EXHAUSTED: no room, too many mappings, or kMostRanges.
  absl::StatusOr<Range> Reserve(uint64_t nbytes);

  // Whether all of it is in one range that is open, from its beginning on.
  bool Has(const void* data, uint64_t nbytes) const;

 private:
  struct Reserved;
  struct Known {
    uint64_t nbytes = 0;
    std::weak_ptr<void> open;
  };

  LeaseSpace() = default;
  void Forget(const void* data);

  mutable absl::Mutex mu_;
  std::map<const void*, Known> ranges_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_POOL_LEASE_SPACE_H_
