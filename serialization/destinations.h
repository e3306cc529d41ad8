#ifndef TENSORFERRY_SERIALIZATION_DESTINATIONS_H_
#define TENSORFERRY_SERIALIZATION_DESTINATIONS_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "serialization/destination.h"
#include "serialization/manifest.h"

namespace tensorferry {

// Where a message goes that is received into tensors of the caller.
struct DestinationPlan {
  std::vector<at::Tensor> by_tensor;  // undefined: ours; or all: empty
  // By storage: where its bytes go at once, for those that lie in the caller's
  // memory as they are sent. Null: memory of ours.
  std::vector<std::byte*> direct;
  // By tensor: its destination is filled by a copy, from memory of ours.
  std::vector<bool> copied;
  // How many of those are copied because they lie differently in memory, not
  // because they came packed with others.
  int bounced = 0;
};

// INVALID_ARGUMENT, naming the tensor: see Allocate.
absl::StatusOr<DestinationPlan> PlanDestinations(const Manifest& manifest,
                                                 const Destination& into);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DESTINATIONS_H_
