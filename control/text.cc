#include "control/text.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tensorferry {
namespace {

constexpr absl::string_view kMore = " ...";
constexpr size_t kNames = 4;
constexpr size_t kNameBytes = 64;

unsigned char At(absl::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// The length of the UTF-8 character that `text` starts with; 0: it is none.
size_t Utf8Length(absl::string_view text) {
  unsigned char lead = At(text, 0);
  size_t length = lead < 0x80   ? 1
                  : lead < 0xC2 ? 0
                  : lead < 0xE0 ? 2
                  : lead < 0xF0 ? 3
                  : lead < 0xF5 ? 4
                                : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((At(text, i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xE0 && At(text, 1) < 0xA0) return 0;  // overlong
  if (lead == 0xED && At(text, 1) > 0x9F) return 0;  // surrogate
  if (lead == 0xF0 && At(text, 1) < 0x90) return 0;  // overlong
  if (lead == 0xF4 && At(text, 1) > 0x8F) return 0;  // past U+10FFFF
  return length;
}

// Of a whole character: C0, DEL or C1. Terminals act on all of them.
bool IsControl(absl::string_view character) {
  if (character.size() == 1) {
    return At(character, 0) < 0x20 || At(character, 0) == 0x7F;
  }
  return At(character, 0) == 0xC2 && At(character, 1) < 0xA0;
}

std::string Clean(absl::string_view text, absl::string_view kept) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    absl::string_view character =
        text.substr(0, std::max<size_t>(1, Utf8Length(text)));
    bool bad =
        Utf8Length(text) == 0 || (IsControl(character) && character != kept);
    absl::StrAppend(&clean, bad ? "?" : character);
    text.remove_prefix(character.size());
  }
  return clean;
}

}  // namespace

absl::Status ValidateText(absl::string_view text) {
  absl::string_view rest = text;
  while (!rest.empty()) {
    size_t length = Utf8Length(rest);
    if (length == 0) return absl::InvalidArgumentError("is not UTF-8");
    if (IsControl(rest.substr(0, length))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "has a control character at byte ", text.size() - rest.size()));
    }
    rest.remove_prefix(length);
  }
  return absl::OkStatus();
}

std::string CleanLine(absl::string_view text) { return Clean(text, ""); }

std::string CleanLines(absl::string_view text) { return Clean(text, "\n"); }

std::string Cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  size_t end = most - kMore.size();
  while (end > 0 && (At(text, end) & 0xC0) == 0x80) --end;
  text.resize(end);
  return absl::StrCat(text, kMore);
}

std::string Names(const std::vector<std::string>& names) {
  std::vector<std::string> some;
  for (size_t i = 0; i < std::min(names.size(), kNames); ++i) {
    some.push_back(Cut(names[i], kNameBytes));
  }
  std::string all = absl::StrJoin(some, ", ");
  if (names.size() <= kNames) return all;
  return absl::StrCat(all, kMore, " (", names.size(), " in all)");
}

}  // namespace tensorferry
