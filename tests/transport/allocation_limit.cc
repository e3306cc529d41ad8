#include "tests/transport/allocation_limit.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> limit{SIZE_MAX};
std::atomic<size_t> most_asked{0};

}  // namespace

void* operator new(size_t size) {
  size_t seen = most_asked.load();
  while (size > seen && !most_asked.compare_exchange_weak(seen, size)) {
  }
  void* memory = size > limit ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return size > limit ? nullptr : std::malloc(size == 0 ? 1 : size);
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tensorferry {

AllocationLimit::AllocationLimit(size_t most) {
  most_asked = 0;
  limit = most;
}

AllocationLimit::~AllocationLimit() { limit = SIZE_MAX; }

size_t AllocationLimit::largest() const { return most_asked; }

}  // namespace tensorferry
