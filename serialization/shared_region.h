#ifndef TENSORFERRY_SERIALIZATION_SHARED_REGION_H_
#define TENSORFERRY_SERIALIZATION_SHARED_REGION_H_

#include <c10/core/Allocator.h>

#include <atomic>
#include <cstdint>

namespace tensorferry {

// One allocation handed out in slices; it is freed with the last of them and
// with the SharedRegion itself. Slices may die on any thread.
class SharedRegion {
 public:
  explicit SharedRegion(c10::DataPtr memory);
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;
  ~SharedRegion();

  // A pointer to byte `at` that owns a share of the region.
  c10::DataPtr Slice(uint64_t at);

 private:
  struct Shared {
    std::atomic<int64_t> owners{1};
    c10::DataPtr memory;
  };
  static void Drop(void* shared);

  Shared* const shared_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_SHARED_REGION_H_
