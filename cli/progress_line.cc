#include "cli/progress_line.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/values.h"

namespace tensorferry::cli {

std::string ProgressText(const std::string& what, Progress progress,
                         absl::Duration since) {
  std::string text = absl::StrCat(what, "   ", ShowBytes(progress.bytes),
                                  " of ", ShowBytes(progress.total), "   ",
                                  ShowRate(progress.bytes, since));
  if (progress.bytes > 0 && progress.bytes < progress.total) {
    const double share =
        static_cast<double>(progress.total - progress.bytes) / progress.bytes;
    absl::StrAppend(&text, "   ", ShowTime(since * share), " left");
  }
  return text;
}

ProgressCallback ProgressOnTerminal(const std::string& what) {
  if (isatty(STDERR_FILENO) == 0) return nullptr;
  return [what, start = absl::Now()](Progress progress) {
    const bool is_last = progress.bytes == progress.total;
    // Back to the line's start, and clear what stood there.
    std::fprintf(stderr, "\r\x1b[K%s%s",
                 ProgressText(what, progress, absl::Now() - start).c_str(),
                 is_last ? "\n" : "");
    std::fflush(stderr);
  };
}

}  // namespace tensorferry::cli
