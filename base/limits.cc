#include "base/limits.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

// Calls visit(name, pointer to the field) for each of them.
template <class Visitor>
void ForEachField(Visitor visit) {
#define FERRY_FIELD(name) visit(#name, &Limits::name)
  FERRY_FIELD(message_bytes);
  FERRY_FIELD(payload_bytes);
  FERRY_FIELD(manifest_bytes);
  FERRY_FIELD(tensors);
  FERRY_FIELD(rank);
  FERRY_FIELD(name_bytes);
  FERRY_FIELD(operations_in_flight);
  FERRY_FIELD(bytes_in_flight);
  FERRY_FIELD(operations_queued);
  FERRY_FIELD(bytes_queued);
  FERRY_FIELD(headers_waiting);
  FERRY_FIELD(eager_bytes);
  FERRY_FIELD(body_lanes);
#undef FERRY_FIELD
}

template <class T>
constexpr T Most(T Limits::*) {
  return std::numeric_limits<T>::max();
}

}  // namespace

Limits Smaller(const Limits& a, const Limits& b) {
  Limits smaller;
  ForEachField([&](absl::string_view, auto field) {
    smaller.*field = std::min(a.*field, b.*field);
  });
  return smaller;
}

Limits Unlimited() {
  Limits limits;
  ForEachField(
      [&](absl::string_view, auto field) { limits.*field = Most(field); });
  return limits;
}

absl::Status SetLimit(absl::string_view name, uint64_t value, Limits& limits) {
  absl::Status status = absl::InvalidArgumentError(
      absl::StrCat("there is no limit \"", absl::Utf8SafeCEscape(name),
                   "\"; there are ", LimitNames()));
  ForEachField([&](absl::string_view field_name, auto field) {
    if (field_name != name) return;
    if (value > Most(field)) {
      status = absl::InvalidArgumentError(absl::StrCat(
          "limit ", name, " is ", value, ", at most ", Most(field)));
      return;
    }
    limits.*field = value;
    status = absl::OkStatus();
  });
  return status;
}

std::string LimitNames() {
  std::string names;
  ForEachField([&](absl::string_view name, auto) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  });
  return names;
}

std::vector<std::pair<std::string, uint64_t>> NamedLimits(
    const Limits& limits) {
  std::vector<std::pair<std::string, uint64_t>> named;
  ForEachField([&](absl::string_view name, auto field) {
    named.emplace_back(std::string(name), limits.*field);
  });
  return named;
}

}  // namespace tensorferry
