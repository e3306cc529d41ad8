#ifndef TENSORFERRY_CONTROL_OFFER_H_
#define TENSORFERRY_CONTROL_OFFER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/device_id.h"
#include "base/limits.h"
#include "base/placement.h"

namespace tensorferry {

enum class StreamKind { kDefault, kPool, kHighPriority };

// The stream that carries what one device sends and receives. The CPU has
// none.
struct StreamSpec {
  DeviceId device;
  StreamKind kind = StreamKind::kPool;
  friend bool operator==(const StreamSpec&, const StreamSpec&) = default;
};

// What the caller of a session wants.
struct Offer {
  Placement to_callee;  // where the caller's tensors go at the callee
  // Where the callee's tensors go at the caller; unset: to_callee inverted.
  std::optional<Placement> to_caller;
  std::vector<StreamSpec> caller_streams, callee_streams;  // unset: kPool
  // Names allowed; empty: all but those that have to be named (see
  // PathCapability::only_if_named).
  std::vector<std::string> paths;
  bool digests = true;           // of every storage, checked on receipt
  std::optional<Limits> limits;  // unset: as far as both peers can
  std::string expected_callee;   // name; empty: whoever answers
  std::optional<uint64_t> expected_epoch;  // of the callee
};

// What the callee allows the caller. Built from its options.
struct Policy {
  std::vector<DeviceId> devices;   // the caller may place on; empty: all
  std::vector<std::string> paths;  // names allowed; empty: as in an offer
  std::optional<Limits> limits;    // unset: as far as both peers can
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_OFFER_H_
