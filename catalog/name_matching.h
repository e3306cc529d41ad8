// Internal to catalog/.
#ifndef TENSORFERRY_CATALOG_NAME_MATCHING_H_
#define TENSORFERRY_CATALOG_NAME_MATCHING_H_

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/placement.h"

namespace tensorferry {

// The names of a catalog and the globs of one request. These come from a peer,
// so the work is bounded: a few looks at each character of a name, and some
// millions more for all of them.
class NameMatching {
 public:
  NameMatching() = default;
  // For globs of our own. Half: each name adds to it.
  static NameMatching Unbounded() {
    NameMatching matching;
    matching.steps_ = std::numeric_limits<int64_t>::max() / 2;
    return matching;
  }

  // False, too, once the work is too much.
  bool Matches(absl::string_view glob, absl::string_view name) {
    if (steps_ < 0) return false;
    steps_ += 4 * static_cast<int64_t>(name.size());
    return GlobMatches(glob, name, &steps_);
  }

  // RESOURCE_EXHAUSTED: it was too much.
  absl::Status Check() const {
    if (steps_ >= 0) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "matching the names here takes too many steps; use simpler globs, or "
        "name a bundle");
  }

 private:
  int64_t steps_ = int64_t{1} << 22;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_NAME_MATCHING_H_
