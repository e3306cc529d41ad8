#ifndef TENSORFERRY_SERIALIZATION_ALLOCATE_H_
#define TENSORFERRY_SERIALIZATION_ALLOCATE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/limits.h"
#include "serialization/buffers.h"
#include "serialization/converter_registry.h"
#include "serialization/destination.h"
#include "serialization/manifest.h"
#include "serialization/streams.h"

namespace tensorferry {

struct AllocateOptions {
  Destination into;
  Limits limits;
  StreamSet streams;
  BufferSource* source = nullptr;  // null: libtorch's allocator
  // Buffers, in growing order, that have a source of their own.
  std::vector<uint32_t> apart;
  BufferSource* source_apart = nullptr;
  const ConverterRegistry* converters = nullptr;  // null: the global one
};

// The second step: memory for the message that `manifest` describes. Checks
// everything that a lying peer could have written before it allocates.
//
// INVALID_ARGUMENT, naming tensor, storage or buffer: a manifest that
//   contradicts itself, a device without converter, a destination that the
//   message lacks, whose dtype, shape or device differs, whose storage has no
//   memory or too little (resized), which is not the whole of its alias group,
//   which overlaps itself unlike what was sent, or which overlaps another and
//   does not do so alike in the message. Columns of one matrix do not overlap;
//   where two interleave in a less regular way, that they do not is not seen.
// FAILED_PRECONDITION: no stream for a device.
// RESOURCE_EXHAUSTED: a limit of options.limits, named, or no memory.
absl::StatusOr<ReadBuffers> Allocate(Manifest manifest,
                                     AllocateOptions options);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_ALLOCATE_H_
