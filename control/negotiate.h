#ifndef TENSORFERRY_CONTROL_NEGOTIATE_H_
#define TENSORFERRY_CONTROL_NEGOTIATE_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/capabilities.h"
#include "control/offer.h"
#include "control/session_plan.h"

namespace tensorferry {

// What a session between these two would be, or all that speaks against it.
struct Explanation {
  SessionPlan plan;                      // as far as it could be made
  std::vector<absl::Status> objections;  // empty: the session can be opened
};

// Answers an offer without opening anything. Pure: a function of its arguments,
// no I/O, no clock. Checks what PyTorch checks of device maps (duplicate
// devices, invalid indices, duplicate targets, undeclared sources and targets)
// and what it does not (streams, paths, versions, epochs, policy), and reports
// everything at once.
Explanation Explain(const Offer& offer, const Capabilities& caller,
                    const Capabilities& callee, const Policy& policy);

// The agreed plan. An error carries every objection, one a line, each naming
// peer, device and what to change; its code is that of the first in the order
// FAILED_PRECONDITION (epoch, name, versions), INVALID_ARGUMENT,
// PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION (no path).
absl::StatusOr<SessionPlan> Negotiate(const Offer& offer,
                                      const Capabilities& caller,
                                      const Capabilities& callee,
                                      const Policy& policy);

// The caller's own check of the plan that a callee answered with: it is one
// that the offer allows. FAILED_PRECONDITION: names the field that differs.
absl::Status CheckPlan(const SessionPlan& plan, const Offer& offer,
                       const Capabilities& caller);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_NEGOTIATE_H_
