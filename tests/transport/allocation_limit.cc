#include "tests/transport/allocation_limit.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> limit{SIZE_MAX};
std::atomic<size_t> most_asked{0};

// Null: more than is allowed, or than there is.
void* Allocate(size_t size, size_t alignment) {
  size_t seen = most_asked.load();
  while (size > seen && !most_asked.compare_exchange_weak(seen, size)) {
  }
  if (size > limit) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
}

void* AllocateOrThrow(size_t size, size_t alignment) {
  void* const memory = Allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Those for arrays call these.
void* operator new(size_t size) { return AllocateOrThrow(size, 1); }
void* operator new(size_t size, std::align_val_t alignment) {
  return AllocateOrThrow(size, static_cast<size_t>(alignment));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size, 1);
}
void* operator new(size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return Allocate(size, static_cast<size_t>(alignment));
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace tensorferry {

AllocationLimit::AllocationLimit(size_t most) {
  most_asked = 0;
  limit = most;
}

AllocationLimit::~AllocationLimit() { limit = SIZE_MAX; }

size_t AllocationLimit::largest() const { return most_asked; }

}  // namespace tensorferry
