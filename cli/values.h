#ifndef TENSORFERRY_CLI_VALUES_H_
#define TENSORFERRY_CLI_VALUES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/placement.h"
#include "cli/arguments.h"

namespace tensorferry::cli {

// Values of flags. UsageError: not of that kind, with the flag's name.
absl::StatusOr<absl::Duration> DurationOf(const Arguments& arguments,
                                          const std::string& flag,
                                          absl::Duration otherwise);
absl::StatusOr<bool> OnOffOf(const Arguments& arguments,
                             const std::string& flag, bool otherwise);
absl::StatusOr<Placement> PlacementOf(const Arguments& arguments,
                                      const std::string& flag);
// "64KiB,1MiB": whole numbers with B, KiB, MiB, GiB or nothing.
absl::StatusOr<std::vector<uint64_t>> SizesOf(const Arguments& arguments,
                                              const std::string& flag,
                                              const std::string& otherwise);

// One of them, or "0"; nullopt: the flag was not given.
absl::StatusOr<std::optional<uint64_t>> SizeOf(const Arguments& arguments,
                                               const std::string& flag);

// "NAME=VALUE", a number as in SizesOf.
struct NamedNumber {
  std::string name;
  uint64_t number = 0;
};
absl::StatusOr<std::vector<NamedNumber>> NamedNumbersOf(
    const Arguments& arguments, const std::string& flag);

// Values as people read them: "86.7 MiB", "1.25 GB/s", "3.4 ms".
std::string ShowBytes(uint64_t bytes);
std::string ShowRate(uint64_t bytes, absl::Duration time);
std::string ShowTime(absl::Duration time);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_VALUES_H_
