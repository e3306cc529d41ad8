#include "cli/values.h"

#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace tensorferry::cli {
namespace {

absl::Status NotA(absl::string_view what, const std::string& flag,
                  absl::string_view value) {
  return UsageError(absl::StrCat(
      "--", flag, " \"", absl::Utf8SafeCEscape(value), "\" is no ", what));
}

constexpr std::array<std::pair<absl::string_view, uint64_t>, 4> kUnits = {
    {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}};

bool ParseSize(absl::string_view text, uint64_t* size) {
  uint64_t unit = 1;
  for (const auto& [suffix, bytes] : kUnits) {
    if (!absl::ConsumeSuffix(&text, suffix)) continue;
    unit = bytes;
    break;
  }
  // 1 TiB: what is larger is a slip, and must not overflow.
  if (!absl::SimpleAtoi(text, size) || *size > (uint64_t{1} << 40) / unit) {
    return false;
  }
  *size *= unit;
  return *size > 0;
}

}  // namespace

absl::StatusOr<absl::Duration> DurationOf(const Arguments& arguments,
                                          const std::string& flag,
                                          absl::Duration otherwise) {
  if (!arguments.Has(flag)) return otherwise;
  const std::string text = arguments.Get(flag);
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) ||
      duration <= absl::ZeroDuration() ||
      duration == absl::InfiniteDuration()) {
    return NotA("time of more than 0, like 30s, 500ms or 2m", flag, text);
  }
  return duration;
}

absl::StatusOr<bool> OnOffOf(const Arguments& arguments,
                             const std::string& flag, bool otherwise) {
  if (!arguments.Has(flag)) return otherwise;
  const std::string text = arguments.Get(flag);
  if (text == "on") return true;
  if (text == "off") return false;
  return NotA("on or off", flag, text);
}

absl::StatusOr<Placement> PlacementOf(const Arguments& arguments,
                                      const std::string& flag) {
  Placement placement;
  for (const std::string& text : arguments.All(flag)) {
    absl::StatusOr<PlacementRule> rule = ParsePlacementRule(text);
    if (!rule.ok()) {
      return UsageError(
          absl::StrCat("--", flag, ": ", std::string(rule.status().message())));
    }
    placement.rules.push_back(*std::move(rule));
  }
  return placement;
}

absl::StatusOr<std::vector<uint64_t>> SizesOf(const Arguments& arguments,
                                              const std::string& flag,
                                              const std::string& otherwise) {
  const std::string text = arguments.Get(flag, otherwise);
  std::vector<uint64_t> sizes;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    uint64_t size = 0;
    if (!ParseSize(part, &size)) {
      return NotA("list of sizes like 64KiB,1MiB", flag, text);
    }
    sizes.push_back(size);
  }
  return sizes;
}

absl::StatusOr<std::optional<uint64_t>> SizeOf(const Arguments& arguments,
                                               const std::string& flag) {
  if (!arguments.Has(flag)) return std::nullopt;
  const std::string text = arguments.Get(flag);
  uint64_t size = 0;
  if (text != "0" && !ParseSize(text, &size)) {
    return NotA("size like 4GiB or 0", flag, text);
  }
  return size;
}

absl::StatusOr<std::vector<NamedNumber>> NamedNumbersOf(
    const Arguments& arguments, const std::string& flag) {
  std::vector<NamedNumber> numbers;
  for (const std::string& text : arguments.All(flag)) {
    const size_t equals = text.find('=');
    NamedNumber one;
    if (equals == std::string::npos || equals == 0 ||
        !ParseSize(text.substr(equals + 1), &one.number)) {
      return NotA("NAME=VALUE with a number like 64 or 4GiB", flag, text);
    }
    one.name = text.substr(0, equals);
    numbers.push_back(std::move(one));
  }
  return numbers;
}

std::string ShowBytes(uint64_t bytes) {
  for (const auto& [suffix, unit] : kUnits) {
    if (unit == 1 || bytes < unit) continue;
    return absl::StrFormat("%.1f %s", static_cast<double>(bytes) / unit,
                           suffix);
  }
  return absl::StrCat(bytes, " B");
}

std::string ShowRate(uint64_t bytes, absl::Duration time) {
  const double seconds = absl::ToDoubleSeconds(time);
  if (seconds <= 0) return "-";
  const double rate = static_cast<double>(bytes) / seconds;
  if (rate >= 1e9) return absl::StrFormat("%.2f GB/s", rate / 1e9);
  if (rate >= 1e6) return absl::StrFormat("%.1f MB/s", rate / 1e6);
  return absl::StrFormat("%.1f kB/s", rate / 1e3);
}

std::string ShowTime(absl::Duration time) {
  if (time >= absl::Minutes(2)) {
    return absl::FormatDuration(absl::Trunc(time, absl::Seconds(1)));
  }
  const double seconds = absl::ToDoubleSeconds(time);
  if (seconds >= 1) return absl::StrFormat("%.2f s", seconds);
  if (seconds >= 1e-3) return absl::StrFormat("%.2f ms", seconds * 1e3);
  return absl::StrFormat("%.1f us", seconds * 1e6);
}

}  // namespace tensorferry::cli
