#ifndef TENSORFERRY_CLI_PROCESS_MEMORY_H_
#define TENSORFERRY_CLI_PROCESS_MEMORY_H_

#include "absl/status/status.h"

namespace tensorferry::cli {

// Forks, and tries whether process_vm_readv, which the path unix/local/vm lives on, is
// allowed between the two: this process reading the child's memory (which
// ptrace_scope 1 allows too), and the child reading this one's, as unrelated
// processes of one user would. The kernel's refusal comes through;
// DATA_LOSS: other bytes were read.
absl::Status ReadChildsMemory();
absl::Status LetChildReadMemory();

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_PROCESS_MEMORY_H_
