#include "base/descriptor_budget.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
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
  static std::atomic<DescriptorBudget*> of_process = nullptr;
  DescriptorBudget* budget = of_process;
  if (budget != nullptr && budget->home_.IsThis()) return *budget;
  // The parent's is left alone: its lock may be held, and the offset of its
  // directory is shared with the parent.
  auto* const own = new DescriptorBudget;
  if (of_process.compare_exchange_strong(budget, own)) return *own;
  delete own;
  return *budget;
}

DescriptorBudget::DescriptorBudget() : open_(opendir("/proc/self/fd")) {}

DescriptorBudget::~DescriptorBudget() {
  if (open_ != nullptr) closedir(open_);
}

int DescriptorBudget::OpenNow() {
  if (open_ == nullptr) return 0;
  // Linux 6.2 and newer say it at once; reading takes 20 ms for 10,000.
  struct stat folder = {};
  if (fstat(dirfd(open_), &folder) == 0 && folder.st_size > 0) {
    return static_cast<int>(folder.st_size);
  }
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
  if (budget_ == nullptr || !budget_->home_.IsThis()) return;
  absl::MutexLock lock(&budget_->mu_);
  budget_->claimed_ -= count_;
}

}  // namespace tensorferry
