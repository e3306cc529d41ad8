#ifndef TENSORFERRY_TESTS_SIMULATION_SESSION_WORLD_H_
#define TENSORFERRY_TESTS_SIMULATION_SESSION_WORLD_H_

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"

namespace tensorferry {
namespace simulation {

struct WorldReport {
  std::string failure;  // empty: all invariants held
  // That the runs reach what they are there for.
  int opened = 0, refused = 0, drained = 0, broken = 0;
  int crashes = 0, stops = 0, cuts = 0, breaks = 0;
  int sent_ok = 0, sent_failed = 0;
};

// Two machines whose processes open sessions with each other, over a network
// that delays, breaks and is cut, and that crash, restart and stand still. What
// runs is the real negotiation, session table, control streams of both sides,
// sessions (SessionCore, on one thread), and the transfer machines of both
// directions; time, gRPC, links and the transport are simulated. All that
// happens follows from `draw`, which is called for every choice: one sequence
// of numbers, one run.
//
// Invariants: every session tells once whether it opened, ends once, and only
// after every operation of its side has ended, each once; OK means delivered
// intact; where nothing went wrong, nothing fails; a session whose peer is
// silent ends within lease, linger and last words; a process of another epoch
// than the offer expects is never taken for the old one; a callee has no more
// sessions than its limit; nothing of a session outlives it: no entry, stream,
// call, timer, lane or operation.
WorldReport RunWorld(absl::AnyInvocable<uint64_t()> draw, bool trace);
// With numbers drawn from a seed.
WorldReport RunWorld(uint64_t seed, bool trace = false);

}  // namespace simulation
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SIMULATION_SESSION_WORLD_H_
