// Internal to control/ and session/: text that comes from a peer, or goes to
// one, and that people read in the end.
#ifndef TENSORFERRY_CONTROL_TEXT_H_
#define TENSORFERRY_CONTROL_TEXT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// INVALID_ARGUMENT: `text` is not UTF-8 or has a control character; says which
// and where, not in what.
absl::Status ValidateText(absl::string_view text);

// One line that ValidateText takes: what it would not becomes '?'.
std::string CleanLine(absl::string_view text);
// As CleanLine, but for '\n', which stays.
std::string CleanLines(absl::string_view text);

// At most `most` bytes, whole characters; " ..." in place of the rest.
std::string Cut(std::string text, size_t most);

// "a, b, c, d ... (9 in all)". However long a list a peer gave, it is told
// again in a few words.
std::string Names(const std::vector<std::string>& names);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_TEXT_H_
