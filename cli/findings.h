#ifndef TENSORFERRY_CLI_FINDINGS_H_
#define TENSORFERRY_CLI_FINDINGS_H_

#include <string>
#include <vector>

namespace tensorferry::cli {

// Something that this machine has or lacks, and what follows from it.
struct Finding {
  enum class Level {
    kGood,
    kNote,     // works, but slower or with less than it could
    kProblem,  // tensors cannot be moved like this
  };
  std::string what;  // "cma", to look for
  Level level = Level::kGood;
  std::string found;    // as measured here and now
  std::string meaning;  // what it means, and what to do about it
};

// Each looks at one thing, changes nothing and ends soon.
Finding CheckAddresses();
Finding CheckProcessMemory();
Finding CheckOpenFiles();
Finding CheckLibtorch();
Finding CheckCudaDriver();
Finding CheckSharedMemory();
Finding CheckHugePages();
Finding CheckMemory();

std::vector<Finding> CheckAll();

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_FINDINGS_H_
