#ifndef TENSORFERRY_SERIALIZATION_DESTINATIONS_H_
#define TENSORFERRY_SERIALIZATION_DESTINATIONS_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "serialization/buffers.h"
#include "serialization/destination.h"
#include "serialization/manifest.h"

namespace tensorferry {

// Where a message goes that is received into tensors of the caller.
struct DestinationPlan {
  std::vector<at::Tensor> by_tensor;  // undefined: ours; or all: empty
  std::vector<std::string> names;     // of those that are defined
  // By storage: where it goes if its destinations lie in memory as it is sent.
  // Those of other storages are filled tensor by tensor, from memory of ours.
  std::vector<StorageTarget> targets;
  int bounced = 0;  // how many are filled so
};

// INVALID_ARGUMENT, naming the tensor: see Allocate.
absl::StatusOr<DestinationPlan> PlanDestinations(const Manifest& manifest,
                                                 Destination into);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DESTINATIONS_H_
