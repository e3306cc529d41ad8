#ifndef TENSORFERRY_CONTROL_LEASE_H_
#define TENSORFERRY_CONTROL_LEASE_H_

#include "absl/time/time.h"

namespace tensorferry {

// A lease is the silence that ends a session. These bounds hold on both sides;
// a heartbeat fits twice into its own side's lease.
inline constexpr absl::Duration kShortestLease = absl::Milliseconds(100);
inline constexpr absl::Duration kLongestLease = absl::Hours(1);
inline constexpr absl::Duration kShortestHeartbeat = absl::Milliseconds(10);
// That one callee has, and that one ListSessions tells.
inline constexpr int kMostSessions = 4096;

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_LEASE_H_
