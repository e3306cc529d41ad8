#ifndef TENSORFERRY_CLI_PROGRESS_LINE_H_
#define TENSORFERRY_CLI_PROGRESS_LINE_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "catalog/progress.h"

namespace tensorferry::cli {

// A line on stderr that says how far a transfer is: bytes, rate, time left.
// Empty if stderr is no terminal: a log is no place for it.
ProgressCallback ProgressOnTerminal(const std::string& what);

// "pull   43.2 MiB of 86.7 MiB   1.25 GB/s   2.10 s left"
std::string ProgressText(const std::string& what, Progress progress,
                         absl::Duration since);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_PROGRESS_LINE_H_
