#ifndef TENSORFERRY_SESSION_PLAN_RULES_H_
#define TENSORFERRY_SESSION_PLAN_RULES_H_

#include <string>

#include "absl/status/statusor.h"
#include "control/session_plan.h"
#include "transfer/rules.h"

namespace tensorferry {

enum class Side { kCaller, kCallee };

// What a plan means for the lanes of one side: the one place where a
// SessionPlan turns into TransferRules and stream specs into streams.
// A device without a pool has its default stream in place of one of the pool.
// FAILED_PRECONDITION: no stream of high priority, or a device that has failed;
// names it.
// INVALID_ARGUMENT: libtorch knows no such device type.
absl::StatusOr<TransferRules> RulesFor(const SessionPlan& plan, Side side,
                                       std::string session_id);

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_PLAN_RULES_H_
