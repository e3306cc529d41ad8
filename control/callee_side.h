// Internal to control/: the callee's side of a control stream.
#ifndef TENSORFERRY_CONTROL_CALLEE_SIDE_H_
#define TENSORFERRY_CONTROL_CALLEE_SIDE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/scheduler.h"
#include "control/access.h"
#include "control/control_service.h"
#include "control/control_stream.h"
#include "control/identity_counts.h"
#include "control/session_host.h"
#include "control/session_table.h"
#include "control/stream_side.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {

// What an accepted `open` led to.
struct Answer {
  std::string session_id;
  control::v1::Accepted accepted;
  std::shared_ptr<ControlEvents> events;
  absl::Duration caller_lease;
};

class CalleeSide;

// What the sessions share. Everything but the atomics and what is thread-safe
// by itself belongs to the loop.
struct ServiceShared {
  ServiceShared(SessionHost* host_in, const ControlServiceOptions& options_in,
                Scheduler* loop_in,
                SessionTable::NewId new_id = SessionTable::RandomId)
      : host(host_in),
        options(options_in),
        loop(loop_in),
        table(options_in.clock, options_in.lease, options_in.max_sessions,
              std::move(new_id)) {}

  // Counts a stream, of a session or not that far yet. RESOURCE_EXHAUSTED: too
  // many, of all or of this caller.
  absl::Status AddStream(const Caller& caller);
  void RemoveStream(const Caller& caller);
  absl::StatusOr<Answer> Open(const control::v1::Open& open, const Caller& by,
                              std::shared_ptr<ControlStream> stream);
  // Ends the sessions whose lease has passed, now and each time one does.
  void Sweep();
  void AwaitNoStreams();

  SessionHost* const host;
  const ControlServiceOptions options;
  Scheduler* const loop;  // must end before this: its tasks use this
  SessionTable table;
  std::atomic<bool> stopping{false};

  std::set<CalleeSide*> sides;  // each keeps itself alive while in here
  std::map<std::string, CalleeSide*> by_id;
  std::optional<absl::Status> shutdown;

  absl::Mutex mu;
  int streams ABSL_GUARDED_BY(mu) = 0;
  IdentityCounts streams_of ABSL_GUARDED_BY(mu);

 private:
  // How many sessions one with these grants may have.
  int MostSessions(const Grants& grants) const;
  absl::StatusOr<Answer> Admit(const control::v1::Open& open, const Caller& by,
                               std::shared_ptr<ControlStream> stream);
};

// The callee's side of one session.
class CalleeSide
    : public StreamSide,
      public grpc::ServerBidiReactor<control::v1::SessionRequest,
                                     control::v1::SessionResponse> {
 public:
  CalleeSide(ServiceShared* shared, grpc::CallbackServerContext* context,
             Caller caller)
      : StreamSide(Role::kCallee, shared->loop, shared->options.heartbeat),
        shared_(shared),
        context_(context),
        caller_(std::move(caller)) {}

  void Start();
  const Caller& caller() const { return caller_; }

  // gRPC's threads.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  std::shared_ptr<CalleeSide> Self() {
    return std::static_pointer_cast<CalleeSide>(shared_from_this());
  }

  void Register();
  void OnReadFailed();
  void OnMessage(const control::v1::SessionRequest& request);
  void Handle(const control::v1::SessionRequest& request);
  void OnAnswer(absl::StatusOr<Answer> answer);
  void Refuse();
  void Forget();
  void TellEnd();
  void GoodbyeCame(const control::v1::Goodbye& goodbye);

  void FinishWire();

  void StartWriteOf(const Signal& signal) override;
  void CloseWire(const absl::Status& why) override;
  void CancelWire() override;
  // Virtual for simulations, whose calls are not gRPC's.
  virtual void CancelCall() { context_->TryCancel(); }
  void OnEnding() override;
  void OnEnded() override;
  void OnGone() override;

  ServiceShared* const shared_;
  grpc::CallbackServerContext* const context_;
  const Caller caller_;
  std::atomic<bool> open_came_{false};
  control::v1::SessionRequest request_;    // gRPC's while a read is under way
  control::v1::SessionResponse response_;  // gRPC's while a write is under way
  // The loop's.
  bool accepted_sent_ = false, said_goodbye_ = false, read_over_ = false;
  std::optional<grpc::Status> close_with_;  // once there is nothing to write
  bool finished_ = false;                   // context_ may be gone
  Scheduler::TimerId open_timer_ = 0;
  std::optional<Answer> answer_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CALLEE_SIDE_H_
