#ifndef TENSORFERRY_BASE_LIMITS_H_
#define TENSORFERRY_BASE_LIMITS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Bounds on what one session may ask of this process. All are checked before
// memory is taken; passing one is RESOURCE_EXHAUSTED with its name. A session
// runs under the smaller value of the two peers, field by field.
struct Limits {
  // One message.
  uint64_t message_bytes = uint64_t{64} << 30;   // payload and storages
  uint64_t payload_bytes = uint64_t{256} << 20;  // taken before it arrives
  uint64_t manifest_bytes = uint64_t{32} << 20;
  uint32_t tensors = 1 << 17;
  uint32_t rank = 64;          // dimensions of one tensor
  uint32_t name_bytes = 4096;  // of one tensor

  // One direction of one session.
  uint32_t operations_in_flight = 64;  // begun, not yet acknowledged
  uint64_t bytes_in_flight = uint64_t{8} << 30;
  uint32_t operations_queued = 65536;  // waiting behind those in flight
  uint64_t bytes_queued = uint64_t{256} << 30;
  // Arrived, no Receive matches yet. They are in flight: only a smaller number
  // than operations_in_flight makes a difference.
  uint32_t headers_waiting = 1024;
  // What a sender may send of tensors before the receiver has a place for them.
  uint64_t eager_bytes = uint64_t{1} << 20;

  // Connections that carry tensors at the same time, beside the one for
  // headers. Each takes three descriptors.
  uint32_t body_lanes = 4;

  friend bool operator==(const Limits&, const Limits&) = default;
};

// Field by field the smaller of the two.
Limits Smaller(const Limits& a, const Limits& b);

// Every field at its most: bounds nothing.
Limits Unlimited();

// Sets the field that is called `name`. INVALID_ARGUMENT: none is (the text
// lists them), or it cannot hold `value`.
absl::Status SetLimit(absl::string_view name, uint64_t value, Limits& limits);

// "message_bytes, payload_bytes, ...".
std::string LimitNames();

// All fields by their names, in that order.
std::vector<std::pair<std::string, uint64_t>> NamedLimits(const Limits& limits);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_LIMITS_H_
