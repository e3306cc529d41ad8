// Internal to control/.
#ifndef TENSORFERRY_CONTROL_NEEDED_LIMITS_H_
#define TENSORFERRY_CONTROL_NEEDED_LIMITS_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "base/limits.h"

namespace tensorferry {

// Names of the limits that are 0 and within which nothing can be sent.
std::vector<absl::string_view> NeededButZero(const Limits& limits);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_NEEDED_LIMITS_H_
