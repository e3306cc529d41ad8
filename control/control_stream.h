#ifndef TENSORFERRY_CONTROL_CONTROL_STREAM_H_
#define TENSORFERRY_CONTROL_CONTROL_STREAM_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry {

// Where the callee takes the session's lanes, and the secret that each of them
// must prove to know. Void once the session ends, or 10 s after issue if
// unused.
struct LaneTicket {
  std::string session_id;
  // The best first: "unix://@x", "tcp://127.0.0.1:40411".
  std::vector<std::string> data_addresses;
  std::string session_key;  // 16 random bytes; never logged
};

// The control stream of one session, seen from one side: heartbeats, drain and
// the end. The session lives as long as its stream. Thread-safe; once the
// session has ended its methods do nothing, for as long as one keeps it.
//
// Heartbeats are the stream's own affair: it sends them, and ends the session
// with UNAVAILABLE if the peer was silent for too long.
class ControlStream {
 public:
  virtual ~ControlStream() = default;
  // Tells the peer that all lanes are up on this side (callee -> caller).
  virtual void SendOpened() = 0;
  // Asks the peer to begin no operation any more and to finish those begun.
  virtual void SendDrain() = 0;
  // Says why the session ends (OK: closed as wished), then closes the stream.
  // The first goodbye counts, ours or the peer's. ControlEvents::OnStreamEnded
  // follows.
  virtual void SendGoodbye(absl::Status why) = 0;
};

// What arrives on a control stream. Calls come one at a time, on the loop of
// the client or the service, no lock of theirs held: be short, do not block.
class ControlEvents {
 public:
  virtual ~ControlEvents() = default;
  virtual void OnOpened() = 0;  // caller's side only
  virtual void OnDrain() = 0;
  // The last call, and there always is one. What the goodbye said that ended
  // the session, ours or the peer's (OK: closed as wished); UNAVAILABLE: the
  // peer or the way to it is gone, or silent; INVALID_ARGUMENT: the peer does
  // not keep to the protocol.
  virtual void OnStreamEnded(absl::Status why) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CONTROL_STREAM_H_
