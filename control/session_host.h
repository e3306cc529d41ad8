#ifndef TENSORFERRY_CONTROL_SESSION_HOST_H_
#define TENSORFERRY_CONTROL_SESSION_HOST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "control/capabilities.h"
#include "control/control_stream.h"
#include "control/identity.h"
#include "control/offer.h"
#include "control/session_plan.h"

namespace tensorferry {

// What the control service needs of the process that it speaks for; session/
// implements it. Thread-safe, called on gRPC threads: be short. What it throws
// becomes the caller's status, INTERNAL as a rule.
class SessionHost {
 public:
  virtual ~SessionHost() = default;

  virtual Capabilities GetCapabilities() = 0;
  virtual Policy GetPolicy() = 0;

  // What Admit gives back: where the lanes go, and who hears the stream.
  struct Admitted {
    LaneTicket ticket;
    std::shared_ptr<ControlEvents> events;
  };
  // A plan was agreed on under `session_id` with `caller`. The host is ready
  // for the lanes before it returns. An error goes to the caller and there is
  // no session, nor an OnStreamEnded. What it sends on `stream` follows the
  // acceptance.
  virtual absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) = 0;

  // Bytes moved so far, for ListSessions: {sent, received}; zeroes if there is
  // no such session (any more).
  virtual std::pair<uint64_t, uint64_t> BytesMoved(
      const std::string& session_id) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_SESSION_HOST_H_
