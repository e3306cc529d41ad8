#include "transfer/in_process_pair.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "base/status_macros.h"

namespace tensorferry {

absl::StatusOr<InProcessPair> MakeInProcessPair(EndpointOptions caller,
                                                EndpointOptions callee,
                                                TransferRules caller_rules,
                                                TransferRules callee_rules) {
  // Outlives both callbacks: each is waited for.
  struct Waiting {
    absl::Notification up, dialed;
    absl::Status callee;
    absl::StatusOr<std::shared_ptr<Link>> caller;
  };
  auto waiting = std::make_shared<Waiting>();
  InProcessPair pair;
  FERRY_ASSIGN_OR_RETURN(pair.caller_endpoint,
                         Endpoint::Create(std::move(caller)));
  FERRY_ASSIGN_OR_RETURN(pair.callee_endpoint,
                         Endpoint::Create(std::move(callee)));
  FERRY_ASSIGN_OR_RETURN(Endpoint::Expected expected,
                         pair.callee_endpoint->Expect(
                             std::move(callee_rules),
                             [waiting](absl::Status status) {
                               waiting->callee = std::move(status);
                               waiting->up.Notify();
                             },
                             nullptr));
  pair.callee = std::move(expected.link);
  pair.caller_endpoint->Dial(
      expected.addresses, expected.key, std::move(caller_rules),
      absl::Seconds(10), nullptr,
      [waiting](absl::StatusOr<std::shared_ptr<Link>> link) {
        waiting->caller = std::move(link);
        waiting->dialed.Notify();
      });
  waiting->dialed.WaitForNotification();
  FERRY_RETURN_IF_ERROR(waiting->caller.status());
  waiting->up.WaitForNotification();
  FERRY_RETURN_IF_ERROR(waiting->callee);
  pair.caller = *std::move(waiting->caller);
  return pair;
}

}  // namespace tensorferry
