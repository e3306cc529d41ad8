#include "serialization/name_table.h"

// Names are short: a call would cost as much as the hash.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/random_bytes.h"

namespace tensorferry {

uint64_t HashName(absl::string_view name) {
  static const uint64_t seed = [] {
    uint64_t seed;
    // Where there are none, no session opens either: its key needs them. So
    // there is no peer that chooses names.
    return RandomBytes(&seed, sizeof(seed)).ok() ? seed : 0;
  }();
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

NameTable NameTableFor(size_t names) {
  size_t slots = 2;
  while (slots < 2 * names) slots *= 2;
  return NameTable(slots, 0);
}

std::string DescribeTensor(int tensor, absl::string_view name) {
  if (name.empty()) return absl::StrCat("tensor ", tensor);
  constexpr size_t kShown = 128;
  return absl::StrCat("tensor ", tensor, " \"",
                      absl::CHexEscape(name.substr(0, kShown)),
                      name.size() > kShown ? "..." : "", "\"");
}

}  // namespace tensorferry
