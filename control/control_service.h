#ifndef TENSORFERRY_CONTROL_CONTROL_SERVICE_H_
#define TENSORFERRY_CONTROL_CONTROL_SERVICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "control/access.h"
#include "control/session_host.h"
#include "control/session_table.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

struct ControlServiceOptions {
  // A heartbeat is sent this often (more often if the caller's lease asks it),
  // and the session ends with UNAVAILABLE when nothing came for `lease`. Values
  // beyond the bounds of control/lease.h count as the bound.
  absl::Duration heartbeat = absl::Seconds(4);
  absl::Duration lease = absl::Seconds(15);
  int max_sessions = 256;
  int max_sessions_per_identity = 0;  // 0: no more than max_sessions
  Clock* clock = nullptr;             // null: the real one
  // Of answers that callers have not taken yet, all together; see Answers.
  uint64_t answer_bytes = uint64_t{128} << 20;
  // Who may do what. Null: nobody anything.
  std::shared_ptr<const Access> access;
};

// The gRPC face of negotiation: tensorferry.control.v1.Control, with callback
// reactors. A Peer has one already: this is for those who implement SessionHost
// themselves. Mount it on a server of your own, before the server is built:
//
//   ControlService control(&host,
//                          {.access = Access::Create(security).value()});
//   control.RegisterOn(builder);
//
// `host` must outlive the service. To end: Shutdown, then shut the server down
// (it waits for streams that are still open), then destroy the service.
class ControlService {
 public:
  ControlService(SessionHost* host, ControlServiceOptions options);
  // Sessions still open end with UNAVAILABLE; each OnStreamEnded has returned
  // when this does. Must not run in a callback of ControlEvents.
  ~ControlService();
  ControlService(const ControlService&) = delete;
  ControlService& operator=(const ControlService&) = delete;

  void RegisterOn(grpc::ServerBuilder& builder);
  // No new sessions (UNAVAILABLE); says goodbye with `why` to those there are.
  // Does not wait.
  void Shutdown(absl::Status why);
  const SessionTable& sessions() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CONTROL_SERVICE_H_
