#ifndef TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_
#define TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tensorferry {

struct SimulationReport {
  std::string failure;  // empty: all invariants held
  int sent_ok = 0, sent_failed = 0, received_ok = 0, lanes_ended = 0;
  int aside = 0, again = 0, dropped = 0;  // bodies read to stage, region, sink
  int digests = 0;                        // while a message arrived
};

// A sender and a receiver against each other over a network and users that are
// drawn from `seed`: delays, lanes that end, cancellations, deadlines, failing
// allocations, a link that ends. Deterministic: one seed, one run.
//
// Invariants: every operation ends exactly once on each side; OK at the sender
// means delivered, intact, once; neither takes the other for a liar; nothing is
// read from or written to a buffer after its operation was finished; windows
// are kept and come back to 0; with nothing but lanes ending, everything
// arrives without the help of a deadline.
class ProtocolSimulation {
 public:
  enum class Side { kSender, kReceiver };

  // From the first message to the last end, alone.
  static SimulationReport Run(uint64_t seed);

  // One direction of a session whose time, processes and end are the user's.
  // `calm`: no operation may fail.
  ProtocolSimulation(uint64_t seed, bool calm);
  ~ProtocolSimulation();

  // One thing that may happen now: on a side that runs, and nothing between
  // them unless they are connected. False: there is none.
  bool Step(bool sender_runs, bool receiver_runs, bool connected);
  absl::Time next_deadline() const;
  // It is `now` on the sides that run.
  void AdvanceTo(absl::Time now, bool sender_runs, bool receiver_runs);
  // The sender's user begins nothing more.
  void StopSending();
  // The link of one side ends; the other notices by its lanes.
  void End(Side side, absl::Status why);
  // Nothing is under way on it; after End also: it holds no buffer any more.
  bool idle(Side side) const;
  bool ended(Side side) const;
  // Every operation of the side has ended.
  void CheckSide(Side side);
  const SimulationReport& report() const;

 private:
  class World;
  const std::unique_ptr<World> world_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_
