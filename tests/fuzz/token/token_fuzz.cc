// The authorization of a call, as anybody who reaches the control port can send
// it, and the files of tokens. The first byte says which.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/match.h"
#include "control/tokens.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

void ReadHeader(absl::string_view header) {
  const auto token = BearerToken(header);
  if (!token.ok()) return Check(absl::IsUnauthenticated(token.status()));
  Check(!token->empty() && absl::StrContains(header, *token));
  // What a client reads from its file is what a server takes.
  const auto same = ParseToken(*token);
  Check(same.ok() && *same == *token);
}

void ReadFile(absl::string_view text) {
  const auto known = ParseKnownTokens(text);
  if (!known.ok()) return Check(absl::IsInvalidArgument(known.status()));
  for (const KnownToken& token : *known) Check(!token.name.empty());
  Check(!NameOfToken(*known, "a token that nobody has the hash of"));
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view rest(reinterpret_cast<const char*>(data) + 1,
                               size - 1);
  if (data[0] % 2 == 0) {
    tensorferry::ReadHeader(rest);
  } else {
    tensorferry::ReadFile(rest);
  }
  return 0;
}
