#ifndef TENSORFERRY_CLI_FINDINGS_H_
#define TENSORFERRY_CLI_FINDINGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry::cli {

// Something that this machine has or lacks, and what follows from it.
struct Finding {
  enum class Level {
    kGood,
    kNote,     // works, but slower or with less than it could
    kProblem,  // tensors cannot be moved like this
  };
  std::string what;  // "process memory", to look for
  Level level = Level::kGood;
  std::string found;    // as measured here and now
  std::string meaning;  // what it means, and what to do about it
};

// Each looks at one thing, changes nothing and ends soon.
Finding CheckAddresses();
Finding CheckProcessMemory();
Finding CheckOpenFiles();
Finding CheckLibtorch();
Finding CheckGpus();
Finding CheckSharedMemory();
Finding CheckHugePages();
Finding CheckMemory();

// One for each device besides the CPU that tensors can be on, under its name.
std::vector<Finding> CheckDevices();

std::vector<Finding> CheckAll();

// What CheckProcessMemory looks at, and what it makes of it.
struct ProcessMemory {
  absl::Status of_child, of_parent;  // of reading their memory
  int ptrace_scope = 0;
  bool may_trace = false;  // this process has CAP_SYS_PTRACE
};
Finding ExplainProcessMemory(const ProcessMemory& found);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_FINDINGS_H_
