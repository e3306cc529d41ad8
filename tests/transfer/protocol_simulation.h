#ifndef TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_
#define TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_

#include <cstdint>
#include <string>

namespace tensorferry {

struct SimulationReport {
  std::string failure;  // empty: all invariants held
  int sent_ok = 0, sent_failed = 0, received_ok = 0, lanes_ended = 0;
  int aside = 0, again = 0, dropped = 0;  // bodies read to stage, region, sink
};

// Runs a sender and a receiver against each other over a network and users that
// are drawn from `seed`: delays, lanes that end, cancellations, deadlines,
// failing allocations, a link that ends. Deterministic: one seed, one run.
//
// Invariants: every operation ends exactly once on each side; OK at the sender
// means delivered, intact, once; neither takes the other for a liar; nothing is
// read from or written to a buffer after its operation was finished; windows
// are kept and come back to 0; with nothing but lanes ending, everything
// arrives without the help of a deadline.
SimulationReport SimulateProtocol(uint64_t seed);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_PROTOCOL_SIMULATION_H_
