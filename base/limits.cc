#include "base/limits.h"

#include <algorithm>

namespace tensorferry {

Limits Smaller(const Limits& a, const Limits& b) {
  Limits smaller;
  auto take = [&](auto Limits::*field) {
    smaller.*field = std::min(a.*field, b.*field);
  };
  take(&Limits::message_bytes);
  take(&Limits::payload_bytes);
  take(&Limits::manifest_bytes);
  take(&Limits::tensors);
  take(&Limits::rank);
  take(&Limits::name_bytes);
  take(&Limits::operations_in_flight);
  take(&Limits::bytes_in_flight);
  take(&Limits::operations_queued);
  take(&Limits::bytes_queued);
  take(&Limits::headers_waiting);
  take(&Limits::eager_bytes);
  take(&Limits::body_lanes);
  return smaller;
}

}  // namespace tensorferry
