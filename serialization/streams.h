#ifndef TENSORFERRY_SERIALIZATION_STREAMS_H_
#define TENSORFERRY_SERIALIZATION_STREAMS_H_

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <vector>

#include "absl/status/statusor.h"

namespace tensorferry {

// At most one stream for each device that a message touches. The CPU has none.
using StreamSet = std::vector<c10::Stream>;

// The stream of `streams` that belongs to `device`. For the CPU always its
// default (synchronous) stream.
// FAILED_PRECONDITION: no stream for this device; names it.
absl::StatusOr<c10::Stream> StreamForDevice(const StreamSet& streams,
                                            c10::Device device);

// `chosen`, and the streams of `otherwise` for the devices that it has none
// for.
StreamSet OrElse(StreamSet chosen, const StreamSet& otherwise);

// The stream that libtorch puts the calling thread's work for `device` on.
c10::Stream CurrentStream(c10::Device device);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_STREAMS_H_
