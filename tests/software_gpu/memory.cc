#include "tests/software_gpu/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace tensorferry::software_gpu {
namespace {

// For all that a process ever allocates on one device.
constexpr size_t kAddressSpace = size_t{128} << 30;

// What fresh memory holds, so that a test that reads it sees no zeros.
constexpr int kUninitialized = 0xa5;
// Larger ranges are left alone: filling costs real pages.
constexpr size_t kFillLimit = size_t{16} << 20;

}  // namespace

uintptr_t ReserveAddresses(size_t size) {
  void* base = mmap(nullptr, size, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    perror("software GPU: no address space");
    abort();
  }
  return reinterpret_cast<uintptr_t>(base);
}

DeviceMemory::DeviceMemory()
    : file_("software_gpu_memory", kAddressSpace),
      addresses_(ReserveAddresses(kAddressSpace)) {}

AllocationPtr DeviceMemory::Allocate(size_t size) {
  const size_t offset = file_.Allocate(size);
  if (offset == file_.size()) return nullptr;
  auto allocation = std::make_shared<Allocation>();
  allocation->begin = addresses_ + offset;
  allocation->size = size;
  allocation->view = file_.at(offset);
  memset(allocation->view, kUninitialized, std::min(size, kFillLimit));
  return allocation;
}

void DeviceMemory::Free(const Allocation& allocation) {
  file_.Discard(OffsetOf(allocation), allocation.size);
}

void AllocationMap::Add(AllocationPtr allocation) {
  allocation->id = next_id_++;
  const uintptr_t begin = allocation->begin;
  by_begin_[begin] = std::move(allocation);
}

void AllocationMap::Remove(const Allocation& allocation) {
  by_begin_.erase(allocation.begin);
}

AllocationPtr AllocationMap::Find(const void* p) const {
  auto after = by_begin_.upper_bound(reinterpret_cast<uintptr_t>(p));
  if (after == by_begin_.begin()) return nullptr;
  const AllocationPtr& candidate = std::prev(after)->second;
  // Past the end of device memory nobody else's can be.
  const size_t reach =
      candidate->size + (candidate->on_device() ? kPageSize : 0);
  return candidate->OffsetOf(p) < reach ? candidate : nullptr;
}

std::vector<AllocationPtr> AllocationMap::Live() const {
  std::vector<AllocationPtr> live;
  for (const auto& [begin, allocation] : by_begin_) {
    if (!allocation->freed) live.push_back(allocation);
  }
  return live;
}

}  // namespace tensorferry::software_gpu
