#ifndef TENSORFERRY_TESTS_TESTING_BECOMES_H_
#define TENSORFERRY_TESTS_TESTING_BECOMES_H_

#include <functional>

#include "absl/time/time.h"

namespace tensorferry {
namespace testing {

// What slow machines are given where the claim is that something ends at all.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Whether `condition`, which nobody announces, comes true in time.
bool Becomes(const std::function<bool()>& condition,
             absl::Duration within = kPatience);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_BECOMES_H_
