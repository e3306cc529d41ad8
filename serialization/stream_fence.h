#ifndef TENSORFERRY_SERIALIZATION_STREAM_FENCE_H_
#define TENSORFERRY_SERIALIZATION_STREAM_FENCE_H_

#include <vector>

#include "absl/status/status.h"
#include "base/done.h"
#include "serialization/buffers.h"

namespace tensorferry {

// One region for each stream of a device that one of `regions` is on.
std::vector<Region> OnePerStream(const std::vector<Region>& regions);

// Whether the transport may be given memory on the region's stream, now. It
// does not survive a device that has failed. FAILED_PRECONDITION: it has.
absl::Status CheckStream(const Region& region);

// Runs `reached` once the streams of all `regions` have come as far as they
// are filled now, with the first error of a device if there is one: at once, if
// all regions are the host's, else on any thread. See
// DeviceConverter::WhenReached for what it may do.
void WhenReached(const std::vector<Region>& regions, DoneStatus reached);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_STREAM_FENCE_H_
