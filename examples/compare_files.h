#ifndef TENSORFERRY_EXAMPLES_COMPARE_FILES_H_
#define TENSORFERRY_EXAMPLES_COMPARE_FILES_H_

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {

// How many bytes two files have in common, if that is all of both. DATA_LOSS:
// they differ, or are empty or not there.
inline absl::StatusOr<uint64_t> CompareFiles(const std::string& a,
                                             const std::string& b) {
  std::ifstream in_a(a, std::ios::binary), in_b(b, std::ios::binary);
  std::string x(1 << 20, 0), y(1 << 20, 0);
  uint64_t compared = 0;
  while (true) {
    in_a.read(x.data(), x.size());
    in_b.read(y.data(), y.size());
    const auto n = in_a.gcount();
    if (n != in_b.gcount() || std::memcmp(x.data(), y.data(), n) != 0) {
      return absl::DataLossError(
          absl::StrCat(a, " and ", b, " differ after byte ", compared));
    }
    if (n == 0) break;
    compared += n;
  }
  if (compared == 0) return absl::DataLossError(absl::StrCat(a, " is empty"));
  return compared;
}

}  // namespace tensorferry

#endif  // TENSORFERRY_EXAMPLES_COMPARE_FILES_H_
