#ifndef TENSORFERRY_SESSION_RECONNECT_H_
#define TENSORFERRY_SESSION_RECONNECT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/done.h"
#include "base/home_process.h"
#include "control/offer.h"
#include "session/back_off.h"
#include "session/peer.h"
#include "session/session.h"

namespace tensorferry {

struct ReconnectOptions {
  absl::Duration timeout = absl::Seconds(10);  // of each Connect
  BackOffOptions back_off;
  // Must outlive the object, and a callback that destroys it by a moment.
  Clock* clock = Clock::Real();
};

// Keeps one session with a peer open: opens it, and opens a new one when it has
// ended with a status of a peer that may come back, see BackOff::After. Whoever
// wants that asks for it; a session by itself never comes back. What was under
// way in the old session is not repeated, and what the peer was told once it
// must be told again: `on_session` runs for every new one.
//
//   KeptSession kept(&peer, address, offer, {}, [](auto session) {...},
//                    [](absl::Status why) {...});
//
// A peer that goes in an orderly way closes its sessions as wished: that ends
// it, too. An offer that expects an epoch is refused after a restart of the
// peer, with FAILED_PRECONDITION, and that ends it.
class KeptSession {
 public:
  using OnSession = std::function<void(std::shared_ptr<Session>)>;

  // `peer` must outlive this. `on_session` and `on_stopped` run on the peer's
  // executor; the latter once, last: with what ended the last session or the
  // last try (OK: a session was closed as wished). If this is destroyed first
  // it runs with CANCELLED before the destructor returns.
  KeptSession(Peer* peer, std::string address, Offer offer,
              ReconnectOptions options, OnSession on_session,
              DoneStatus on_stopped);
  // No new sessions; one that is open stays its holders'. A callback that runs
  // is awaited, unless this is called there. In a child after fork it does
  // nothing.
  ~KeptSession();
  KeptSession(const KeptSession&) = delete;
  KeptSession& operator=(const KeptSession&) = delete;

 private:
  class State;
  const HomeProcess home_;
  std::shared_ptr<State> state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_RECONNECT_H_
