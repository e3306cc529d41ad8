#ifndef TENSORFERRY_TESTS_SIMULATION_SIMULATED_LINK_H_
#define TENSORFERRY_TESTS_SIMULATION_SIMULATED_LINK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "base/scheduler.h"
#include "tests/simulation/simulated_lanes.h"
#include "transfer/link.h"

namespace tensorferry {
namespace simulation {

// One end of simulated lanes as a session sees it. What its lanes carry they
// make up themselves; what the session sends arrives at once and is answered by
// nobody, so that a Receive ends with its timeout or with the link.
class SimulatedLink final : public Link {
 public:
  // `fail` hears of what a session must not do.
  SimulatedLink(std::shared_ptr<SimulatedLanes> lanes, int end, Scheduler* loop,
                std::function<void(const char*)> fail)
      : lanes_(std::move(lanes)),
        end_(end),
        loop_(loop),
        fail_(std::move(fail)) {}

  Operation Send(TensorMessage message, Envelope envelope, SendOptions options,
                 Done<Receipt> done) override;
  Operation Receive(ReceiveOptions options, Done<Received> done) override;
  void Drain(DoneStatus drained) override;
  void AnnounceEnd(absl::Status why) override;
  void Close(absl::Status why, DoneStatus closed) override;
  bool ended() const override { return closing_; }
  LinkCounters counters() const override { return {}; }

 private:
  struct Pending {
    Done<Received> done;
    Scheduler::TimerId timer;
  };

  void EndReceive(uint64_t id, absl::Status why);

  const std::shared_ptr<SimulatedLanes> lanes_;
  const int end_;
  Scheduler* const loop_;
  const std::function<void(const char*)> fail_;
  std::map<uint64_t, Pending> receives_;
  uint64_t last_ = 0;
  bool closing_ = false;
};

}  // namespace simulation
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SIMULATION_SIMULATED_LINK_H_
