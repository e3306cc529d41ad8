#ifndef TENSORFERRY_TESTS_TESTING_PEER_PAIR_H_
#define TENSORFERRY_TESTS_TESTING_PEER_PAIR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "session/peer.h"
#include "session/session.h"

namespace tensorferry {
namespace testing {

// Two peers in one process with a session between them, over real gRPC and real
// lanes: what is sent on one session is received on the other.
//
//   FERRY_ASSERT_OK_AND_ASSIGN(auto pair, MakePeerPair());
//   pair.caller_session->Send(...);
struct PeerPair {
  std::unique_ptr<Peer> callee, caller;
  std::shared_ptr<Session> callee_session, caller_session;  // gone before peers
};

// Waits until the session is open on both sides. `executor`: of both peers, as
// in PeerOptions. Statuses: those of Peer::Create and Peer::Connect.
absl::StatusOr<PeerPair> MakePeerPair(Offer offer = {},
                                      Executor* executor = nullptr);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_PEER_PAIR_H_
