#include "tests/testing/peer_pair.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "session/blocking.h"

namespace tensorferry {
namespace testing {

absl::StatusOr<PeerPair> MakePeerPair(Offer offer, Executor* executor) {
  // Shared with a callback that may outlive this call if Connect fails.
  struct Accepted {
    absl::Notification came;
    std::shared_ptr<Session> session;
  };
  PeerPair pair;
  auto accepted = std::make_shared<Accepted>();
  FERRY_ASSIGN_OR_RETURN(
      pair.callee, Peer::Create({.name = "callee", .executor = executor}));
  FERRY_ASSIGN_OR_RETURN(
      pair.caller,
      Peer::Create({.name = "caller", .control = "", .executor = executor}));
  pair.callee->Accept([accepted](std::shared_ptr<Session> session) {
    if (accepted->came.HasBeenNotified()) return;  // one is all there is
    accepted->session = std::move(session);
    accepted->came.Notify();
  });
  FERRY_ASSIGN_OR_RETURN(
      pair.caller_session,
      blocking::Connect(*pair.caller, pair.callee->control_address(),
                        std::move(offer), absl::Seconds(30)));
  accepted->came.WaitForNotification();
  pair.callee_session = std::move(accepted->session);
  return pair;
}

}  // namespace testing
}  // namespace tensorferry
