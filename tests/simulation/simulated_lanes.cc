#include "tests/simulation/simulated_lanes.h"

#include <algorithm>
#include <utility>

namespace tensorferry {
namespace simulation {
namespace {

// Steps of the machines between two looks at the world.
constexpr int kStepsAtOnce = 8;

}  // namespace

SimulatedLanes::SimulatedLanes(Network network, bool calm)
    : network_(std::move(network)),
      sends_{{network_.draw(~uint64_t{0}), calm},
             {network_.draw(~uint64_t{0}), calm}} {}

void SimulatedLanes::Attach(int end, ProcessState* process,
                            std::function<void(absl::Status)> down) {
  ends_[end].process = process;
  ends_[end].down = std::move(down);
  Wake();
}

void SimulatedLanes::Start(int end) {
  ends_[end].started = true;
  Wake();
}

void SimulatedLanes::Drain(int end, std::function<void(absl::Status)> drained) {
  if (ends_[end].ended) {
    return Tell(end, [drained = std::move(drained)] {
      drained(absl::CancelledError("the link has ended"));
    });
  }
  sends_[end].StopSending();
  ends_[end].drains.push_back(std::move(drained));
  Wake();
}

void SimulatedLanes::Close(int end, absl::Status why,
                           std::function<void()> closed) {
  End& closing = ends_[end];
  if (closing.ended) network_.fail("a link was closed twice");
  closing.ended = true;
  closing.closing = std::move(closed);
  sends_[end].End(Side::kSender, why);
  sends_[1 - end].End(Side::kReceiver, why);
  if (!cut_) {
    network_.queue->In(network_.delay(), nullptr,
                       [self = shared_from_this(), end] {
                         self->Tell(1 - end, [self, end] {
                           End& other = self->ends_[1 - end];
                           if (other.ended || self->cut_) return;
                           other.down(absl::UnavailableError("lanes ended"));
                         });
                       });
  }
  Wake();
}

void SimulatedLanes::Cut(bool cut) {
  cut_ = cut;
  Wake();
}

void SimulatedLanes::Break() {
  for (int end : {0, 1}) {
    Tell(end, [this, end] {
      if (ends_[end].ended) return;
      ends_[end].down(absl::UnavailableError("lanes broke"));
    });
  }
}

void SimulatedLanes::CheckEnded(int end) {
  sends_[end].CheckSide(Side::kSender);
  sends_[1 - end].CheckSide(Side::kReceiver);
  Check();
}

// In the process of that end.
void SimulatedLanes::Tell(int end, std::function<void()> what) {
  if (!attached(end)) return;
  network_.queue->In(
      absl::ZeroDuration(), ends_[end].process,
      [self = shared_from_this(), what = std::move(what)] { what(); });
}

bool SimulatedLanes::Idle(int end) const {
  return sends_[end].idle(Side::kSender) &&
         sends_[1 - end].idle(Side::kReceiver);
}

void SimulatedLanes::Wake() {
  if (std::exchange(armed_, true)) return;
  network_.queue->Cancel(deadline_);
  network_.queue->In(absl::Microseconds(100 + network_.draw(3000)), nullptr,
                     [self = shared_from_this()] { self->Pump(); });
}

void SimulatedLanes::Pump() {
  armed_ = false;
  const absl::Time now = network_.queue->Now();
  bool runs[2];
  for (int end : {0, 1}) {
    runs[end] = (ends_[end].started || ends_[end].ended) &&
                !ends_[end].process->stopped;
  }
  bool moved = false;
  for (int from : {0, 1}) {
    sends_[from].AdvanceTo(now, runs[from], runs[1 - from]);
    for (int i = 0; i < kStepsAtOnce; ++i) {
      if (!sends_[from].Step(runs[from], runs[1 - from], !cut_)) break;
      moved = true;
    }
  }
  Check();
  for (int end : {0, 1}) {
    End& here = ends_[end];
    if (here.ended || Idle(end)) {
      for (auto& drained : std::exchange(here.drains, {})) {
        Tell(end, [drained, ended = here.ended] {
          drained(ended ? absl::CancelledError("ended") : absl::OkStatus());
        });
      }
    }
    if (here.closing && sends_[end].ended(Side::kSender) &&
        sends_[1 - end].ended(Side::kReceiver)) {
      here.closed = true;
      Tell(end, std::exchange(here.closing, nullptr));
    }
  }
  if (moved) return Wake();
  const absl::Time next =
      std::min(sends_[0].next_deadline(), sends_[1].next_deadline());
  if (next == absl::InfiniteFuture() || next <= now) return;
  deadline_ = network_.queue->At(next, nullptr, [self = shared_from_this()] {
    if (!self->armed_) self->Pump();
  });
}

void SimulatedLanes::Check() {
  for (ProtocolSimulation& send : sends_) {
    if (!send.report().failure.empty()) network_.fail(send.report().failure);
  }
}

}  // namespace simulation
}  // namespace tensorferry
