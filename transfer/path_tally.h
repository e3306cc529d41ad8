#ifndef TENSORFERRY_TRANSFER_PATH_TALLY_H_
#define TENSORFERRY_TRANSFER_PATH_TALLY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "transfer/receipt.h"

namespace tensorferry {

// Counts what each path carried for one operation.
class PathTally {
 public:
  void Add(const std::string& path, uint64_t bytes) {
    for (PathUse& use : uses_) {
      if (use.path == path) {
        use.bytes += bytes;
        return;
      }
    }
    uses_.push_back({path, bytes, {}});
  }

  // With the reason for those that were given up; `given_up(path)` knows it.
  template <class GivenUp>
  std::vector<PathUse> Uses(GivenUp given_up) const {
    std::vector<PathUse> uses = uses_;
    for (PathUse& use : uses) use.status = given_up(use.path);
    return uses;
  }

 private:
  std::vector<PathUse> uses_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_PATH_TALLY_H_
