#include "control/needed_limits.h"

namespace tensorferry {

std::vector<absl::string_view> NeededButZero(const Limits& limits) {
  std::vector<absl::string_view> names;
  auto need = [&](absl::string_view name, auto Limits::*field) {
    if (limits.*field == 0) names.push_back(name);
  };
  need("message_bytes", &Limits::message_bytes);
  need("manifest_bytes", &Limits::manifest_bytes);
  need("operations_in_flight", &Limits::operations_in_flight);
  need("bytes_in_flight", &Limits::bytes_in_flight);
  need("headers_waiting", &Limits::headers_waiting);
  need("body_lanes", &Limits::body_lanes);
  return names;
}

}  // namespace tensorferry
