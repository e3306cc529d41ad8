#ifndef TENSORFERRY_CLI_PROGRESS_LINE_H_
#define TENSORFERRY_CLI_PROGRESS_LINE_H_

#include <cstdio>
#include <string>

#include "absl/time/time.h"
#include "catalog/progress.h"

namespace tensorferry::cli {

// A line on a terminal that says how far a transfer is: bytes, rate, time left.
// It is written over and over, and ends when the object goes, however the
// transfer ended.
class ProgressLine {
 public:
  ProgressLine(std::FILE* terminal, std::string what);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Must not be called when the line is gone. Empty if the terminal is none: a
  // log is no place for it.
  ProgressCallback Callback();

 private:
  void Show(Progress progress);

  std::FILE* const terminal_;
  const std::string what_;
  const absl::Time start_;
  bool shown_ = false;
};

// "pull   43.2 MiB of 86.7 MiB   1.25 GB/s   2.10 s left"
std::string ProgressText(const std::string& what, Progress progress,
                         absl::Duration since);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_PROGRESS_LINE_H_
