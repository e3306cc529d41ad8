// Bearer tokens: how they are kept, and how they come. Pure.
#ifndef TENSORFERRY_CONTROL_TOKENS_H_
#define TENSORFERRY_CONTROL_TOKENS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// A token that a peer knows, by its hash: the file does not give it away.
struct KnownToken {
  std::string name;
  std::array<uint8_t, 32> sha256;
};

// Lines of "NAME SHA256", the hash in 64 hex digits; '#' begins a comment. A
// name has letters, digits and . _ - @, and may have several tokens, so that
// they can be changed one after the other. INVALID_ARGUMENT: "LINE: ...".
absl::StatusOr<std::vector<KnownToken>> ParseKnownTokens(
    absl::string_view text);

// The token in the value of an `authorization` header. UNAUTHENTICATED: it is
// no "Bearer TOKEN"; the text does not repeat it.
absl::StatusOr<std::string> BearerToken(absl::string_view header);

// The token in a client's file: its one line. INVALID_ARGUMENT: none, more than
// one, or characters that no token has; does not repeat it.
absl::StatusOr<std::string> ParseToken(absl::string_view text);

// The name of `token`; nothing if it is not known. Takes as long for any token
// of its length.
std::optional<std::string> NameOfToken(const std::vector<KnownToken>& known,
                                       absl::string_view token);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_TOKENS_H_
