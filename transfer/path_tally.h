#ifndef TENSORFERRY_TRANSFER_PATH_TALLY_H_
#define TENSORFERRY_TRANSFER_PATH_TALLY_H_

#include <vector>

#include "transfer/receipt.h"

namespace tensorferry {

// Counts what each path carried for one operation.
class PathTally {
 public:
  void Add(PathUse added) {
    for (PathUse& use : uses_) {
      if (use.path != added.path) continue;
      use.bytes += added.bytes;
      use.status.Update(added.status);
      return;
    }
    uses_.push_back(std::move(added));
  }
  void Add(const std::vector<PathUse>& uses) {
    for (const PathUse& use : uses) Add(use);
  }

  const std::vector<PathUse>& uses() const { return uses_; }

 private:
  std::vector<PathUse> uses_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_PATH_TALLY_H_
