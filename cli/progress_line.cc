#include "cli/progress_line.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
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

ProgressLine::ProgressLine(std::FILE* terminal, std::string what)
    : terminal_(terminal),
      what_(std::move(what)),
      start_(Clock::Real()->Now()) {}

ProgressLine::~ProgressLine() {
  if (shown_) std::fputc('\n', terminal_);
}

ProgressCallback ProgressLine::Callback() {
  if (isatty(fileno(terminal_)) == 0) return nullptr;
  return [this](Progress progress) { Show(progress); };
}

void ProgressLine::Show(Progress progress) {
  shown_ = true;
  // Back to the line's start, and clear what stood there.
  std::fprintf(
      terminal_, "\r\x1b[K%s",
      ProgressText(what_, progress, Clock::Real()->Now() - start_).c_str());
  std::fflush(terminal_);
}

}  // namespace tensorferry::cli
