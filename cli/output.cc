#include "cli/output.h"

#include <cerrno>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tensorferry::cli {
namespace {

// The control characters U+0080 to U+009F in UTF-8: terminals obey them, too.
bool IsC1(absl::string_view text) {
  return text.size() >= 2 && text[0] == '\xc2' &&
         (static_cast<unsigned char>(text[1]) & 0xe0) == 0x80;
}

}  // namespace

std::string Printable(absl::string_view text) {
  std::string printable;
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsC1(text.substr(i))) {
      absl::StrAppend(&printable, absl::CHexEscape(text.substr(i++, 2)));
    } else if (absl::ascii_iscntrl(text[i]) && text[i] != '\n') {
      absl::StrAppend(&printable, absl::CHexEscape(text.substr(i, 1)));
    } else {
      printable += text[i];
    }
  }
  return printable;
}

std::string OneLine(absl::string_view text) {
  return absl::StrReplaceAll(Printable(text), {{"\n", "\\n"}});
}

void Output::Write(absl::string_view text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      std::fflush(stdout) == 0;
  if (!written && write_error_ == 0) write_error_ = errno;
}

void Output::Print(absl::string_view text) {
  if (!is_json_) Write(text);
}

void Output::Log(absl::string_view line) const {
  const std::string text = absl::StrCat(Printable(line), "\n");
  // Where nobody reads it, nobody can be told so either.
  std::fwrite(text.data(), 1, text.size(), stderr);
}

absl::Status Output::Finish(const absl::Status& status) {
  absl::Status last = status;
  if (is_json_) {
    Json object = {{"status", absl::StatusCodeToString(status.code())},
                   {"message", std::string(status.message())}};
    object.update(object_);
    // Names that peers wrote need not be UTF-8.
    Write(
        object.dump(2, ' ', false, nlohmann::detail::error_handler_t::replace) +
        "\n");
  }
  if (last.ok() && write_error_ != 0) {
    last = absl::ErrnoToStatus(write_error_, "cannot write to stdout");
  }
  if (!last.ok()) {
    // What a peer said must not look like another line of ours.
    Log(absl::StrCat(
        "tensorferry: ", absl::StatusCodeToString(last.code()), ": ",
        absl::StrReplaceAll(std::string(last.message()), {{"\n", "\n    "}})));
  }
  return last;
}

}  // namespace tensorferry::cli
