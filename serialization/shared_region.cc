#include "serialization/shared_region.h"

#include <cstddef>
#include <utility>

namespace tensorferry {

SharedRegion::SharedRegion(c10::DataPtr memory) : shared_(new Shared) {
  shared_->memory = std::move(memory);
}

SharedRegion::~SharedRegion() { Drop(shared_); }

c10::DataPtr SharedRegion::Slice(uint64_t at) {
  shared_->owners.fetch_add(1, std::memory_order_relaxed);
  return c10::DataPtr(static_cast<std::byte*>(shared_->memory.get()) + at,
                      shared_, &Drop, shared_->memory.device());
}

void SharedRegion::Drop(void* shared) {
  auto* region = static_cast<Shared*>(shared);
  // The last one must see what the others wrote before it frees.
  if (region->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete region;
  }
}

}  // namespace tensorferry
