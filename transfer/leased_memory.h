#ifndef TENSORFERRY_TRANSFER_LEASED_MEMORY_H_
#define TENSORFERRY_TRANSFER_LEASED_MEMORY_H_

#include <c10/core/Allocator.h>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "pool/lease_space.h"
#include "serialization/device_converter.h"

namespace tensorferry {

// Where what was lent of one message is received: ranges of a session's
// LeaseSpace. What was taken outlives it, and the session; but only as long as
// it lives may the peer's memory be put there.
class LeasedMemory : public BufferSource {
 public:
  // Runs `returned`, on any thread, once this and all that was taken has gone;
  // not in a child after fork.
  LeasedMemory(std::shared_ptr<LeaseSpace> space,
               absl::AnyInvocable<void() &&> returned);

  absl::StatusOr<c10::DataPtr> Take(size_t nbytes, size_t align) override;

 private:
  struct Lease;

  const std::shared_ptr<LeaseSpace> space_;
  const std::shared_ptr<Lease> lease_;
  std::vector<std::shared_ptr<void>> open_;  // what was taken
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LEASED_MEMORY_H_
