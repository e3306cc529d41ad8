#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/two_process/contestant.h"
#include "session/peer.h"

namespace tensorferry::benchmarks {

struct FerryWay {
  bool digests = false;
  // What lies there is lent, to a receiver that leases. Null: nothing is.
  std::shared_ptr<LendableMemory> lend;
  // The receiver reads every byte and then says so, which the sender awaits.
  bool read = false;
};

// tensorferry through its public interface, with the options that users get:
// one session for each path and way.
absl::StatusOr<std::unique_ptr<Sender>> ConnectFerry(Peer& peer,
                                                     const std::string& address,
                                                     const std::string& path,
                                                     FerryWay way);

struct FerryReceiverWay {
  bool leases = false;
  bool read = false;  // as its sender has it
};

// The callee's half of a session that was accepted.
std::unique_ptr<Receiver> MakeFerryReceiver(std::shared_ptr<Session> session,
                                            FerryReceiverWay way = {});

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_FERRY_H_
