#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/two_process/contestant.h"
#include "session/peer.h"

namespace tensorferry::benchmarks {

// tensorferry through its public interface, with the options that users get:
// one session for each path, with digests or without.
absl::StatusOr<std::unique_ptr<Sender>> ConnectFerry(Peer& peer,
                                                     const std::string& address,
                                                     const std::string& path,
                                                     bool digests);

// The callee's half of a session that was accepted.
std::unique_ptr<Receiver> MakeFerryReceiver(std::shared_ptr<Session> session);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_
