#ifndef TENSORFERRY_CONTROL_CONTROL_CLIENT_H_
#define TENSORFERRY_CONTROL_CONTROL_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "base/home_process.h"
#include "base/loop.h"
#include "control/capabilities.h"
#include "control/control_stream.h"
#include "control/negotiate.h"
#include "control/offer.h"
#include "control/security.h"
#include "control/session_plan.h"
#include "control/session_table.h"

namespace tensorferry {

struct ControlClientOptions {
  // How often a heartbeat is sent; more often if the callee's lease asks it.
  // Values beyond the bounds of control/lease.h count as the bound.
  absl::Duration heartbeat = absl::Seconds(4);
  absl::Duration lease = absl::Seconds(15);  // a silent callee is UNAVAILABLE
  // Where callbacks and timers run, and whose clock counts the lease. Must
  // outlive the client. Null: a loop of the client's own.
  Loop* loop = nullptr;
  ClientSecurity security;
};

// Talks to another peer's Control service. Thread-safe. Every call ends by its
// deadline; results and events come on the client's loop, so be short in them.
// What those of a session throw ends it with INTERNAL (RESOURCE_EXHAUSTED:
// std::bad_alloc); what others throw, and OnStreamEnded, is dropped. Needs no
// libtorch, and its headers build with -fno-exceptions.
//
// Statuses: INVALID_ARGUMENT (address, or what the peer answered is not well
// formed), UNAVAILABLE (nobody there, or the TLS handshake failed),
// UNAUTHENTICATED, PERMISSION_DENIED, DEADLINE_EXCEEDED, FAILED_PRECONDITION
// (this is a child after fork of the process that made it), or the callee's
// own.
class ControlClient {
 public:
  // `address`: "127.0.0.1:4750", "[::1]:4750" or "unix:/run/x.sock". Statuses:
  // INVALID_ARGUMENT (address, security), the system's error for a file that
  // cannot be read, FAILED_PRECONDITION (plain text beyond loopback),
  // PERMISSION_DENIED (a token for a unix socket of another user's).
  static absl::StatusOr<std::unique_ptr<ControlClient>> Create(
      const std::string& address, ControlClientOptions options = {});
  // Calls under way and sessions still open end with CANCELLED, and their
  // callbacks have run when this returns. Must not run on the client's loop,
  // that is in one of its callbacks, nor on a thread of gRPC's. In a child
  // after fork it does nothing.
  ~ControlClient();
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  void GetCapabilities(absl::Duration timeout, Done<Capabilities> done);
  void Explain(const Offer& offer, const Capabilities& caller,
               absl::Duration timeout, Done<Explanation> done);
  void ListSessions(absl::Duration timeout,
                    Done<std::vector<SessionRecord>> done);
  // Ends the session on both sides with CANCELLED. NOT_FOUND: no such session.
  void CloseSession(const std::string& session_id, absl::Duration timeout,
                    DoneStatus done);

  struct Accepted {
    SessionPlan plan;  // checked against the offer
    LaneTicket ticket;
    std::shared_ptr<ControlStream> stream;
  };
  // Negotiates and opens a control stream. `events` hears it from the moment
  // that `done` has run with OK. `timeout` bounds the negotiation, not the
  // session. FAILED_PRECONDITION also: the plan that came back is not one that
  // the offer allows.
  void OpenSession(const Offer& offer, const Capabilities& caller,
                   std::shared_ptr<ControlEvents> events,
                   absl::Duration timeout, Done<Accepted> done);

 private:
  class State;
  explicit ControlClient(std::unique_ptr<State> state);
  const HomeProcess home_;
  std::unique_ptr<State> state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CONTROL_CLIENT_H_
