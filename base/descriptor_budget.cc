#include "base/descriptor_budget.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

// Asked each time: it may be raised while the process runs.
int Limit() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(
      std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
}

}  // namespace

DescriptorBudget& DescriptorBudget::OfProcess() {
  static auto* const budget = new DescriptorBudget;
  return *budget;
}

DescriptorBudget::DescriptorBudget() : open_(opendir("/proc/self/fd")) {}

int DescriptorBudget::OpenNow() {
  if (open_ == nullptr) return 0;
  rewinddir(open_);
  int count = 0;
  while (readdir(open_) != nullptr) ++count;
  return std::max(0, count - 2);  // "." and ".."
}

int DescriptorBudget::FreeNow() {
  return Limit() - OpenNow() - claimed_ - kKeptBack;
}

int DescriptorBudget::Free() {
  absl::MutexLock lock(&mu_);
  return FreeNow();
}

absl::StatusOr<DescriptorBudget::Claim> DescriptorBudget::Take(
    int count, absl::string_view what) {
  absl::MutexLock lock(&mu_);
  const int free = FreeNow();
  if (count <= free) {
    claimed_ += count;
    return Claim(this, count);
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "the descriptor budget: ", what, " needs ", count,
      " file descriptors, and ", std::max(0, free), " of ", Limit(),
      " (RLIMIT_NOFILE) are to be had; raise it with `ulimit -n`, or open "
      "fewer"));
}

DescriptorBudget::Claim::~Claim() {
  if (budget_ == nullptr) return;
  absl::MutexLock lock(&budget_->mu_);
  budget_->claimed_ -= count_;
}

}  // namespace tensorferry
