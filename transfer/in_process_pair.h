#ifndef TENSORFERRY_TRANSFER_IN_PROCESS_PAIR_H_
#define TENSORFERRY_TRANSFER_IN_PROCESS_PAIR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "transfer/endpoint.h"
#include "transfer/link.h"
#include "transfer/rules.h"

namespace tensorferry {

// Two endpoints in one process with a link between them, for tests. What is
// sent on one link is received on the other.
struct InProcessPair {
  std::unique_ptr<Endpoint> caller_endpoint, callee_endpoint;
  std::shared_ptr<Link> caller, callee;

  // The links go before their endpoints.
  InProcessPair() = default;
  InProcessPair(InProcessPair&&) = default;
  InProcessPair& operator=(InProcessPair&&) = delete;
  ~InProcessPair() {
    caller = nullptr;
    callee = nullptr;
  }
};

// Opens the link and waits until it is up on both sides; not on a thread of the
// options' executors. Statuses: those of Expect and Dial.
absl::StatusOr<InProcessPair> MakeInProcessPair(EndpointOptions caller,
                                                EndpointOptions callee,
                                                TransferRules caller_rules,
                                                TransferRules callee_rules);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_IN_PROCESS_PAIR_H_
