#ifndef TENSORFERRY_CONTROL_SESSION_PLAN_H_
#define TENSORFERRY_CONTROL_SESSION_PLAN_H_

#include <string>
#include <vector>

#include "base/carried_as.h"
#include "base/device_id.h"
#include "base/limits.h"
#include "base/peer_id.h"
#include "base/placement.h"
#include "control/offer.h"

namespace tensorferry {

// Why a path is not taken for a device pair.
struct PathRefusal {
  std::string path;
  std::string reason;  // names the peer that cannot, and what to change
  friend bool operator==(const PathRefusal&, const PathRefusal&) = default;
};

// Paths between a device of one side and one of the other, best first.
struct PathChoice {
  DeviceId caller_device, callee_device;
  std::vector<std::string> ranked;
  std::vector<PathRefusal> refused;  // told by Explain; not kept by a session
  // Whether the pair goes over paths between CPUs, for want of one of its own:
  // a side whose device crosses as a GPU's copies its memory to that of the
  // host, and from it.
  bool through_host = false;
  friend bool operator==(const PathChoice&, const PathChoice&) = default;
};

// What two peers agreed on: a plain value without secrets or addresses, the
// same on both sides.
struct SessionPlan {
  PeerId caller, callee;
  int wire_version = 1;
  Placement to_callee, to_caller;
  std::vector<StreamSpec> caller_streams, callee_streams;
  std::vector<PathChoice> paths;  // of every device pair that a rule can use
  CarriedDevices caller_carried, callee_carried;
  bool digests = true;
  Limits limits;
};

// 32 hex digits over everything in the plan but the refusals; equal plans have
// equal digests. Every message names the digest, so that neither side works
// by another plan than the one agreed on. Not a secret and not a proof.
std::string Digest(const SessionPlan& plan);

// For people: one line a rule, a pair and a limit.
std::string ToString(const SessionPlan& plan);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_SESSION_PLAN_H_
