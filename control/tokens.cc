#include "control/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxNameBytes = 64;

// RFC 6750's b64token.
bool IsToken(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxTokenBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("-._~+/=", c);
         });
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("._-@", c);
         });
}

absl::StatusOr<KnownToken> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() != 2 || !IsName(words[0])) {
    return absl::InvalidArgumentError("want NAME SHA256");
  }
  const bool is_hash =
      words[1].size() == 64 &&
      std::all_of(words[1].begin(), words[1].end(), absl::ascii_isxdigit);
  if (!is_hash) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the hash of \"", words[0], "\" is not 64 hex digits of SHA-256"));
  }
  KnownToken token;
  token.name = std::string(words[0]);
  const std::string hash = absl::HexStringToBytes(words[1]);
  std::copy(hash.begin(), hash.end(), token.sha256.begin());
  return token;
}

}  // namespace

absl::StatusOr<std::vector<KnownToken>> ParseKnownTokens(
    absl::string_view text) {
  std::vector<KnownToken> known;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    absl::StatusOr<KnownToken> token = ParseLine(line);
    if (!token.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(number, ": ", std::string(token.status().message())));
    }
    known.push_back(*std::move(token));
  }
  return known;
}

absl::StatusOr<std::string> BearerToken(absl::string_view header) {
  constexpr absl::string_view kScheme = "bearer ";
  if (absl::StartsWithIgnoreCase(header, kScheme)) {
    const absl::string_view token =
        absl::StripAsciiWhitespace(header.substr(kScheme.size()));
    if (IsToken(token)) return std::string(token);
  }
  return absl::UnauthenticatedError(
      "the authorization of the call is no \"Bearer TOKEN\"");
}

absl::StatusOr<std::string> ParseToken(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (IsToken(text)) return std::string(text);
  return absl::InvalidArgumentError(
      " want one line with a token of letters, digits and -._~+/=");
}

std::optional<std::string> NameOfToken(const std::vector<KnownToken>& known,
                                       absl::string_view token) {
  std::array<uint8_t, 32> hash;
  SHA256(reinterpret_cast<const uint8_t*>(token.data()), token.size(),
         hash.data());
  const KnownToken* found = nullptr;
  for (const KnownToken& one : known) {
    if (CRYPTO_memcmp(one.sha256.data(), hash.data(), hash.size()) == 0) {
      found = &one;
    }
  }
  if (found == nullptr) return std::nullopt;
  return found->name;
}

}  // namespace tensorferry
