#ifndef TENSORFERRY_TRANSPORT_POLL_LOOP_H_
#define TENSORFERRY_TRANSPORT_POLL_LOOP_H_

#include <sched.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/loop.h"

namespace tensorferry {

// How a loop polls before it sleeps. The functions are for tests.
struct Polling {
  absl::Duration longest;  // 0: it does not
  std::function<absl::Time()> now = [] { return Clock::Real()->Now(); };
  std::function<void()> yield = [] { sched_yield(); };
};

// A loop that waits for file descriptors too (epoll). One thread. Before it
// sleeps it polls for a while, of which it learns how long pays: twice a wait
// that just ended within `longest`, half as long after each that did not
// (as KVM polls before it halts a processor). So an idle loop sleeps, and one
// that is between two messages answers without a change of threads, which takes
// 30 to 70 us. What else wants to run on its processor goes first; where that
// does not sleep, a loop that polls would be the last to run, and one that
// sleeps is woken ahead of it. So it does not poll for a while then.
class PollLoop : public Loop {
 public:
  // Told of a descriptor that is ready, on the loop.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnReady(uint32_t epoll_events) = 0;
  };
  using WatchId = uint64_t;  // never used twice
  // Long enough for the answer to a small message, also from a thread of a
  // user's that has to be woken.
  static constexpr absl::Duration kUsualSpin = absl::Microseconds(300);

  // `clock` must outlive it. RESOURCE_EXHAUSTED: no descriptors, no memory or
  // no threads are left.
  static absl::StatusOr<std::unique_ptr<PollLoop>> Create(
      Clock* clock = Clock::Real(), Polling polling = {});
  ~PollLoop() override;

  // On the loop. Edge-triggered. The watcher is kept until Unwatch, after
  // which it hears nothing any more, and which comes before close(fd).
  // RESOURCE_EXHAUSTED: the system has no memory, or watches as much for this
  // user as it may; the watcher is not kept.
  absl::StatusOr<WatchId> Watch(int fd, uint32_t epoll_events,
                                std::shared_ptr<Watcher> watcher);
  // What is watched from now on, of a descriptor that is. Of events that are
  // there already it is told again.
  absl::Status Rewatch(WatchId id, uint32_t epoll_events);
  void Unwatch(WatchId id);

 private:
  class Poller;
  PollLoop(Clock* clock, std::unique_ptr<Poller> poller);

  Poller* const poller_;  // Loop owns it
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_POLL_LOOP_H_
