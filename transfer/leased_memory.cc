#include "transfer/leased_memory.h"

#include <c10/core/Device.h>

#include "base/home_process.h"
#include "serialization/host_memory.h"

namespace tensorferry {

struct LeasedMemory::Lease {
  explicit Lease(absl::AnyInvocable<void() &&> r) : returned(std::move(r)) {}
  ~Lease() {
    if (home.IsThis()) std::move(returned)();
  }

  HomeProcess home;
  absl::AnyInvocable<void() &&> returned;
};

LeasedMemory::LeasedMemory(std::shared_ptr<LeaseSpace> space,
                           absl::AnyInvocable<void() &&> returned)
    : space_(std::move(space)),
      lease_(std::make_shared<Lease>(std::move(returned))) {}

absl::StatusOr<c10::DataPtr> LeasedMemory::Take(size_t nbytes,
                                                size_t /*align*/) {
  // The range goes before the lease.
  struct Owner {
    std::shared_ptr<Lease> lease;
    std::shared_ptr<void> range;
  };
  absl::StatusOr<LeaseSpace::Range> range = space_->Reserve(nbytes);
  if (!range.ok()) return AllocateOnHost(nbytes);  // it is copied, then
  open_.push_back(std::move(range->open));
  return c10::DataPtr(
      range->data, new Owner{lease_, std::move(range->owner)},
      [](void* owner) { delete static_cast<Owner*>(owner); },
      c10::Device(c10::kCPU));
}

}  // namespace tensorferry
