// Internal to control/: what caller and callee of a control stream do alike.
#ifndef TENSORFERRY_CONTROL_STREAM_SIDE_H_
#define TENSORFERRY_CONTROL_STREAM_SIDE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/scheduler.h"
#include "control/control_stream.h"

namespace tensorferry {

// One message of a control stream. kOpen and kAccepted are the first of their
// side; what they carry stays with the side that sends them.
struct Signal {
  enum class Kind { kOpen, kAccepted, kOpened, kHeartbeat, kDrain, kGoodbye };
  Kind kind = Kind::kHeartbeat;
  absl::Status status;  // kGoodbye
};

// One side of one control stream. Lives on a loop: every method runs there but
// for handle(). From Begin until gRPC is done it keeps itself alive.
//
// A derived class ties it to a gRPC reactor: it posts what gRPC reports as
// WriteDone, WireBroken and WireDone, and does the operations on the wire that
// are virtual here. At most one write is under way.
//
// The end: whoever finds a reason first calls End. Whoever is told it by the
// peer, or can tell it nothing: OnEnded -> CloseWire -> gRPC is done -> OnGone.
// Who has it to tell: a goodbye is written -> CloseWire -> gRPC is done, and so
// the peer's OnEnded has run -> OnEnded -> OnGone. If that takes longer than
// the linger time, the wire is cut and OnEnded does not wait for gRPC any more.
// OnEnded never waits for a peer that has been silent for its lease.
class StreamSide : public std::enable_shared_from_this<StreamSide> {
 public:
  enum class Role { kCaller, kCallee };

  StreamSide(Role role, Scheduler* loop, absl::Duration heartbeat);
  virtual ~StreamSide() = default;
  StreamSide(const StreamSide&) = delete;
  StreamSide& operator=(const StreamSide&) = delete;

  // Before anything else, on the thread that made this.
  void Begin();
  // What users hold: posts to this side, nothing once it has ended. Any thread.
  std::shared_ptr<ControlStream> handle() const;

  // Signals wait in order until the wire has taken them.
  void Send(Signal signal);
  // Ends the session; the first call counts. `say`: the peer is told.
  void End(absl::Status why, bool say);
  // As End, of a peer that is not heard any more: a goodbye is tried, but
  // nothing waits for it.
  void EndUnheard(absl::Status why);
  // As End, and does not wait for the peer.
  void Cut(absl::Status why);

 protected:
  // Nothing is written, nor the wire closed, between these two.
  void Pause() { paused_ = true; }
  void Resume();
  // Of what waits; for when there will be no session.
  void DropAllButGoodbye();
  // Puts `signal` before all that waits.
  void SendFirst(Signal signal);
  // Begins heartbeats. `peer_lease`: how much silence the peer bears.
  void GoLive(absl::Duration peer_lease);
  // What a user's callback throws ends the session, or is dropped if that ends
  // already.
  void RunCallback(absl::FunctionRef<void()> callback);
  // Counts what the peer sends; false: it floods us, and the session ends.
  bool CountMessage();

  // gRPC's reports.
  void WriteDone(bool ok);
  void WireBroken();  // nothing can be written any more
  void WireDone();    // the last

  // Operations on the wire. After CloseWire there are no others.
  virtual void StartWriteOf(const Signal& signal) = 0;
  virtual void CloseWire(const absl::Status& why) = 0;
  virtual void CancelWire() = 0;
  // Once each, in this order: the end was decided, it is told, gRPC is done.
  virtual void OnEnding() = 0;
  virtual void OnEnded() = 0;
  virtual void OnGone() = 0;

  bool writing() const { return writing_; }
  bool ending() const { return ending_; }
  bool ended() const { return ended_; }
  const absl::Status& why() const { return why_; }
  Scheduler* loop() const { return loop_; }

 private:
  class Handle;

  void Pump();  // writes or closes, if there is something to do
  void ScheduleTick();
  void Tick();
  void Linger();
  void Ended();

  const Role role_;
  Scheduler* const loop_;
  absl::Duration tick_;
  std::shared_ptr<StreamSide> self_;
  std::shared_ptr<Handle> handle_;
  std::deque<Signal> outbox_;
  bool paused_ = false;
  bool writing_ = false;
  bool broken_ = false;
  bool closed_ = false;
  bool ending_ = false;
  bool ended_ = false;
  int64_t messages_since_tick_ = 0;
  Scheduler::TimerId tick_timer_ = 0, linger_timer_ = 0;
  absl::Status why_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_STREAM_SIDE_H_
