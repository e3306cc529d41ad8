#ifndef TENSORFERRY_TESTS_SIMULATION_SIMULATED_LANES_H_
#define TENSORFERRY_TESTS_SIMULATION_SIMULATED_LANES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/simulation/event_queue.h"
#include "tests/transfer/protocol_simulation.h"

namespace tensorferry {
namespace simulation {

// The lanes of one session and the transfer machines of both directions: what a
// Link is to each of the two processes, `end` 0 the caller's and 1 the
// callee's.
class SimulatedLanes : public std::enable_shared_from_this<SimulatedLanes> {
 public:
  struct Network {
    EventQueue* queue = nullptr;
    std::function<uint64_t(uint64_t)> draw;  // below a number
    std::function<absl::Duration()> delay;
    // First failure of an invariant.
    std::function<void(const std::string&)> fail;
  };

  SimulatedLanes(Network network, bool calm);

  // `down` runs in `process` if the lanes break before that end is closed.
  void Attach(int end, ProcessState* process,
              std::function<void(absl::Status)> down);
  // The session is open at that end: operations begin.
  void Start(int end);
  void Drain(int end, std::function<void(absl::Status)> drained);
  void Close(int end, absl::Status why, std::function<void()> closed);

  void Cut(bool cut);
  void Wake();  // something has changed that a step may depend on
  // The connections end, and the ends of living processes hear of it.
  void Break();
  // Every operation of this end has ended.
  void CheckEnded(int end);
  bool attached(int end) const { return ends_[end].process != nullptr; }
  bool closed(int end) const { return ends_[end].closed; }
  SimulationReport report(int end) const { return sends_[end].report(); }

 private:
  using Side = ProtocolSimulation::Side;
  struct End {
    ProcessState* process = nullptr;
    std::function<void(absl::Status)> down;
    std::vector<std::function<void(absl::Status)>> drains;
    std::function<void()> closing;
    bool started = false, ended = false, closed = false;
  };

  void Pump();
  void Check();
  void Tell(int end, std::function<void()> what);
  bool Idle(int end) const;

  const Network network_;
  ProtocolSimulation sends_[2];  // by the end that sends
  End ends_[2];
  bool cut_ = false, armed_ = false;
  EventQueue::Id deadline_ = 0;
};

}  // namespace simulation
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SIMULATION_SIMULATED_LANES_H_
