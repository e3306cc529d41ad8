#ifndef TENSORFERRY_SERIALIZATION_HOST_MEMORY_H_
#define TENSORFERRY_SERIALIZATION_HOST_MEMORY_H_

#include <c10/core/Allocator.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace tensorferry {

// Memory of libtorch's allocator for the CPU. RESOURCE_EXHAUSTED: there is
// none.
absl::StatusOr<c10::DataPtr> AllocateOnHost(uint64_t nbytes);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_HOST_MEMORY_H_
