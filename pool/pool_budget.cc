#include "pool/pool_budget.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/machine_memory.h"

namespace tensorferry {
namespace {

// The number in a file; nothing readable, or "max": no limit.
uint64_t LimitIn(const std::string& file) {
  uint64_t bytes = 0;
  std::ifstream stream(file);
  return stream >> bytes ? bytes : UINT64_MAX;
}

// Control groups of version 2: a line "0::/path". What is above in the path
// limits too. In a container its own group is most often "/".
uint64_t ControlGroupLimit() {
  constexpr char kRoot[] = "/sys/fs/cgroup";
  std::string path;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (absl::StartsWith(line, "0::/")) path = line.substr(3);
  }
  uint64_t limit = LimitIn(absl::StrCat(kRoot, "/memory.max"));
  while (path.size() > 1) {
    limit = std::min(limit, LimitIn(absl::StrCat(kRoot, path, "/memory.max")));
    path.resize(path.rfind('/'));
  }
  return limit;
}

}  // namespace

std::shared_ptr<PoolBudget> PoolBudget::OfProcess() {
  // Never destroyed: the last block may come back late.
  static auto* const of_process = new std::shared_ptr<PoolBudget>(
      new PoolBudget(std::min(MachineMemory(), ControlGroupLimit()) / 4));
  return *of_process;
}

absl::Status PoolBudget::Take(uint64_t bytes) {
  uint64_t taken = taken_.load();
  do {
    if (bytes > bytes_ - taken) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the pool's limit pool_bytes of ", bytes_, ": ", taken,
                       " bytes are taken, ", bytes, " more are wanted"));
    }
  } while (!taken_.compare_exchange_weak(taken, taken + bytes));
  return absl::OkStatus();
}

}  // namespace tensorferry
