// Internal to control/.
#ifndef TENSORFERRY_CONTROL_STREAM_CHOICE_H_
#define TENSORFERRY_CONTROL_STREAM_CHOICE_H_

#include <vector>

#include "control/capabilities.h"
#include "control/offer.h"

namespace tensorferry {

// One stream for each device of `peer` but the CPU, sorted by device: of the
// kind that `wanted` says, else kPool, else (no pool there) kDefault.
std::vector<StreamSpec> ChooseStreams(const std::vector<StreamSpec>& wanted,
                                      const Capabilities& peer);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_STREAM_CHOICE_H_
