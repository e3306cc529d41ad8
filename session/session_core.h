#ifndef TENSORFERRY_SESSION_SESSION_CORE_H_
#define TENSORFERRY_SESSION_SESSION_CORE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "base/home_process.h"
#include "base/scheduler.h"
#include "control/access.h"
#include "control/control_stream.h"
#include "session/session.h"
#include "session/session_machine.h"
#include "transfer/link.h"

namespace tensorferry {

// A session from the first word of its control stream to the last callback of
// its lanes: carries out what a SessionMachine decides, one action at a time
// and in order, on the thread that brought the event or on one that is at it
// already.
//
// Peer owns it until it has ended; users hold a handle that ends it.
class SessionCore final : public Session,
                          public ControlEvents,
                          public std::enable_shared_from_this<SessionCore> {
 public:
  // What a session needs of its peer; valid until `on_ended` has run. So it is
  // used only under mu_ while the state is not yet kEnded, or in an action.
  struct Environment {
    Executor* executor = nullptr;
    Scheduler* loop = nullptr;
    std::function<void(SessionCore*)> on_ended;
    Identity remote_identity;
    std::shared_ptr<const Access> access;
  };
  // `on_open` runs once: with what users hold, or why the session never opened.
  SessionCore(Environment environment, Done<std::shared_ptr<Session>> on_open);

  // Who agreed on what; once. Returns whether the session goes on: not if it
  // was ended meanwhile, and then the peer was told.
  bool Begin(std::string id, SessionPlan plan, PeerId remote,
             std::shared_ptr<ControlStream> stream);
  void Attach(std::shared_ptr<Link> link);
  // On the callee: its lanes are up. On the caller: the callee said so.
  void CalleeReady();
  // Ends the session with DEADLINE_EXCEEDED, `what` in the text, if it is not
  // open by then.
  void OpenBefore(absl::Time deadline, std::string what);
  // Keeps something until the session has ended (the client whose stream this
  // is); it is let go of on the loop.
  void KeepUntilEnded(std::shared_ptr<void> kept);
  // Ends the session. OK: as wished. Idempotent, the first reason counts.
  void End(absl::Status why);
  // The same, unless it has opened.
  void EndUnlessOpen(absl::Status why);

  // ControlEvents
  void OnOpened() override { CalleeReady(); }
  void OnDrain() override;
  void OnStreamEnded(absl::Status why) override;

  // Session
  const std::string& id() const override { return id_; }
  const Identity& remote_identity() const override {
    return environment_.remote_identity;
  }
  Grants remote_grants() const override {
    if (!home_.IsThis()) return {};
    return environment_.access->GrantsOf(environment_.remote_identity);
  }
  const SessionPlan& plan() const override { return plan_; }
  const PeerId& remote() const override { return remote_; }
  LinkCounters counters() const override;
  Operation Send(TensorMessage message, SendOptions options,
                 Done<Receipt> done) override;
  Operation Receive(ReceiveOptions options, Done<Received> done) override;
  Operation Call(TensorMessage request, CallOptions options,
                 Done<Received> done) override;
  Operation Reply(const Envelope& request, TensorMessage reply,
                  SendOptions options, Done<Receipt> done) override;
  Operation ReplyError(const Envelope& request, absl::Status error,
                       Done<Receipt> done) override;
  absl::Status Handle(uint32_t type, Handler handler) override;
  void OnEnd(absl::AnyInvocable<void(SessionReport) &&> on_end) override;
  void Close(absl::Duration drain, Done<SessionReport> done) override;

 private:
  using Actions = SessionMachine::Actions;

  // Puts an event into the machine and does what it asks for.
  void React(
      absl::FunctionRef<void(SessionMachine&, absl::Time now, Actions&)> event);
  // That event, once the link has done as it was told.
  DoneStatus Then(void (SessionMachine::*event)(Actions&));
  std::optional<SessionAction> NextAction();
  void CarryOut(SessionAction action);
  void SetTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Finish();

  // The link while the session is open or draining, else why there is none.
  absl::StatusOr<std::shared_ptr<Link>> LiveLink() const;
  // What users hold: ends the session when the last copy goes.
  std::shared_ptr<Session> MakeHandle();
  // `done`, a user's; what it throws ends the session.
  template <class T>
  Done<T> Contained(Done<T> done);
  // Does nothing in a child of this process.
  Operation Here(Operation operation) const;
  // Why `request` cannot be answered by `function`, else the link.
  absl::StatusOr<std::shared_ptr<Link>> LinkToAnswer(
      const Envelope& request, absl::string_view function) const;
  void AwaitHandled(uint32_t type, std::shared_ptr<Handler> handler);
  void RunHandler(Handler& handler, Received received);
  // "session ID with 'NAME'", for texts.
  std::string Named() const;

  const HomeProcess home_;
  const Environment environment_;
  // Written by Begin; what users hold exists only afterwards.
  std::string id_;
  SessionPlan plan_;
  PeerId remote_;

  mutable absl::Mutex mu_;
  SessionMachine machine_ ABSL_GUARDED_BY(mu_);
  std::deque<SessionAction> actions_ ABSL_GUARDED_BY(mu_);
  bool acting_ ABSL_GUARDED_BY(mu_) = false;  // somebody carries them out
  Scheduler::TimerId timer_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time timer_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  Done<std::shared_ptr<Session>> on_open_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<ControlStream> stream_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<void> kept_ ABSL_GUARDED_BY(mu_);
  LinkCounters final_counters_ ABSL_GUARDED_BY(mu_);
  std::optional<SessionReport> finished_ ABSL_GUARDED_BY(mu_);
  uint64_t next_call_ ABSL_GUARDED_BY(mu_) = 1;
  absl::flat_hash_set<uint32_t> handled_types_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::AnyInvocable<void(SessionReport) &&>> on_end_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_SESSION_CORE_H_
