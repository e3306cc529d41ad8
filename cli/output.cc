#include "cli/output.h"

#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tensorferry::cli {
namespace {

void Write(std::FILE* file, absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

}  // namespace

std::string Printable(absl::string_view text) {
  std::string printable;
  for (char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)) && c != '\n') {
      absl::StrAppend(&printable, absl::CHexEscape(absl::string_view(&c, 1)));
    } else {
      printable += c;
    }
  }
  return printable;
}

void Output::Print(absl::string_view text) const {
  if (!is_json_) Write(stdout, text);
}

void Output::Log(absl::string_view line) const {
  Write(stderr, absl::StrCat(Printable(line), "\n"));
}

void Output::Finish(const absl::Status& status) {
  if (!status.ok()) {
    Log(absl::StrCat("tensorferry: ", absl::StatusCodeToString(status.code()),
                     ": ", std::string(status.message())));
  }
  if (!is_json_) return;
  Json object = {{"status", absl::StatusCodeToString(status.code())},
                 {"message", std::string(status.message())}};
  object.update(object_);
  // Names that peers wrote need not be UTF-8.
  Write(stdout,
        object.dump(2, ' ', false, nlohmann::detail::error_handler_t::replace) +
            "\n");
}

}  // namespace tensorferry::cli
