#ifndef TENSORFERRY_TESTS_TRANSPORT_ALLOCATION_LIMIT_H_
#define TENSORFERRY_TESTS_TRANSPORT_ALLOCATION_LIMIT_H_

#include <cstddef>

namespace tensorferry {

// While it lives, `new` throws std::bad_alloc for more than `most` bytes at
// once, in all threads. One at a time.
class AllocationLimit {
 public:
  explicit AllocationLimit(size_t most);
  ~AllocationLimit();

  // The most that was asked for at once since it is there.
  size_t largest() const;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_ALLOCATION_LIMIT_H_
