#ifndef TENSORFERRY_SERIALIZATION_SERIALIZE_H_
#define TENSORFERRY_SERIALIZATION_SERIALIZE_H_

#include "absl/status/statusor.h"
#include "base/limits.h"
#include "base/placement.h"
#include "serialization/buffers.h"
#include "serialization/converter_registry.h"
#include "serialization/message.h"
#include "serialization/streams.h"

namespace tensorferry {

struct SerializeOptions {
  Placement placement;  // empty: cpu -> cpu
  Limits limits;
  // The streams that carry the message: one for each device other than the CPU
  // in it.
  StreamSet streams;
  // The streams on which its tensors become ready: work on `streams` waits for
  // them. For other devices these are the calling thread's current streams.
  StreamSet ready_on;
  const ConverterRegistry* converters = nullptr;  // null: the global one
  // Storages of at most this many bytes travel together in one buffer, if they
  // are on the CPU, or on one device whose converter can pack.
  uint64_t pack_below = 64 << 10;
};

// The first step of a message's way: describes it in a Manifest and makes its
// bytes ready to be sent, without copying but for small storages (packed),
// memory of the CPU that nobody owns, and un-aliased views that cover less than
// half of their span (gathered). The tensors must not be written to until the
// result is destroyed.
//
// The sender's target devices are decided per storage, by options.placement.
//
// INVALID_ARGUMENT, naming the tensor: names not unique or not one each, an
//   undefined, nested, meta, MKL-DNN or storage-less tensor, one whose storage
//   has no memory or too little (resized), a per-channel quantised one without
//   a scale for each channel, a device without converter, two tensors of one
//   storage with different targets.
// FAILED_PRECONDITION: no placement or no stream for a device.
// RESOURCE_EXHAUSTED: a limit of options.limits, named, no memory, more than
//   kMostDevices devices, or kMatchSteps used up by the placement's name rules.
absl::StatusOr<WriteBuffers> Serialize(TensorMessage message,
                                       const SerializeOptions& options);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_SERIALIZE_H_
