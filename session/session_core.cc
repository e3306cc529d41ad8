#include "session/session_core.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/user_code.h"
#include "session/call.h"

namespace tensorferry {
namespace {

// Messages of one type that a handler may have arriving at the same time.
constexpr int kHandlersInParallel = 4;

}  // namespace

SessionCore::SessionCore(Environment environment,
                         Done<std::shared_ptr<Session>> on_open)
    : environment_(std::move(environment)), on_open_(std::move(on_open)) {}

// ---- what the machine decides ----

void SessionCore::React(
    absl::FunctionRef<void(SessionMachine&, absl::Time, Actions&)> event) {
  const auto self = shared_from_this();  // the last action lets go of it
  {
    absl::MutexLock lock(&mu_);
    const bool ended = machine_.state() == SessionMachine::State::kEnded;
    Actions actions;
    event(machine_,
          ended ? absl::InfinitePast() : environment_.loop->clock()->Now(),
          actions);
    for (SessionAction& action : actions) actions_.push_back(std::move(action));
    SetTimer();
    if (std::exchange(acting_, true)) return;
  }
  while (auto action = NextAction()) CarryOut(*std::move(action));
}

std::optional<SessionAction> SessionCore::NextAction() {
  absl::MutexLock lock(&mu_);
  if (actions_.empty()) {
    acting_ = false;
    return std::nullopt;
  }
  SessionAction action = std::move(actions_.front());
  actions_.pop_front();
  return action;
}

void SessionCore::SetTimer() {
  const absl::Time at = machine_.next_deadline();
  if (at == timer_at_) return;
  environment_.loop->CancelTimer(std::exchange(timer_, 0));
  timer_at_ = at;
  if (at == absl::InfiniteFuture()) return;
  timer_ = environment_.loop->RunAt(at, [weak = weak_from_this()] {
    if (auto self = weak.lock()) {
      self->React([](auto& machine, absl::Time now, Actions& out) {
        machine.OnTime(now, out);
      });
    }
  });
}

DoneStatus SessionCore::Then(void (SessionMachine::*event)(Actions&)) {
  return [self = shared_from_this(), event](absl::Status) {
    self->React([event](auto& machine, absl::Time, Actions& out) {
      (machine.*event)(out);
    });
  };
}

void SessionCore::CarryOut(SessionAction action) {
  using Kind = SessionAction::Kind;
  std::shared_ptr<ControlStream> stream;
  std::shared_ptr<Link> link;
  Done<std::shared_ptr<Session>> on_open;
  {
    absl::MutexLock lock(&mu_);
    stream = stream_;
    link = link_;
    if (action.kind == Kind::kTellOpen || action.kind == Kind::kTellNotOpen) {
      on_open = std::move(on_open_);
    }
  }
  switch (action.kind) {
    case Kind::kTellOpen:
      return std::move(on_open)(MakeHandle());
    case Kind::kTellNotOpen:
      return std::move(on_open)(std::move(action.status));
    case Kind::kDrainLink:
      return link->Drain([drained = Then(&SessionMachine::OnLinkDrained)](
                             absl::Status status) mutable {
        // Not OK: the link ended first, and says so itself.
        if (status.ok()) std::move(drained)(std::move(status));
      });
    case Kind::kSayDrain:
      return stream->SendDrain();
    case Kind::kAnnounceEnd:
      return link->AnnounceEnd(std::move(action.status));
    case Kind::kSayGoodbye:
      return stream->SendGoodbye(std::move(action.status));
    case Kind::kLastWords:
      return link->Drain(Then(&SessionMachine::OnLastWordsSaid));
    case Kind::kCloseLink:
      return link->Close(std::move(action.status),
                         Then(&SessionMachine::OnLinkClosed));
    case Kind::kFinish:
      return Finish();
  }
}

void SessionCore::Finish() {
  std::vector<absl::AnyInvocable<void(SessionReport) &&>> on_end;
  std::shared_ptr<Link> link;
  std::shared_ptr<void> kept;
  SessionReport report;
  {
    absl::MutexLock lock(&mu_);
    if (link_ != nullptr) final_counters_ = link_->counters();
    link = std::exchange(link_, nullptr);
    kept = std::exchange(kept_, nullptr);
    on_end = std::move(on_end_);
    report = {.why = machine_.why(), .counters = final_counters_};
    finished_ = report;
  }
  // A callback of the link or the client may have led here: they are let go of
  // on another thread.
  environment_.loop->Post([link = std::move(link), kept = std::move(kept)] {});
  for (auto& callback : on_end) {
    environment_.executor->Run(
        [callback = std::move(callback), report]() mutable {
          std::move(callback)(report);
        });
  }
  environment_.on_ended(this);
}

// ---- what happens to it ----

bool SessionCore::Begin(std::string id, SessionPlan plan, PeerId remote,
                        std::shared_ptr<ControlStream> stream) {
  bool goes_on = false;
  React([&](auto& machine, absl::Time, Actions& out)
            ABSL_NO_THREAD_SAFETY_ANALYSIS {
              stream_ = std::move(stream);
              goes_on = machine.OnStream(out);
              if (!goes_on) return;
              id_ = std::move(id);
              plan_ = std::move(plan);
              remote_ = std::move(remote);
            });
  return goes_on;
}

void SessionCore::Attach(std::shared_ptr<Link> link) {
  absl::Status why;
  bool late = false;
  React([&](auto& machine, absl::Time, Actions& out)
            ABSL_NO_THREAD_SAFETY_ANALYSIS {
              late = !machine.OnLink(out);
              why = machine.why();
              if (!late) link_ = link;
            });
  if (late) link->Close(why, [link](absl::Status) {});
}

void SessionCore::CalleeReady() {
  React([](auto& machine, absl::Time, Actions& out) {
    machine.OnCalleeReady(out);
  });
}

void SessionCore::OpenBefore(absl::Time deadline, std::string what) {
  React([&](auto& machine, absl::Time, Actions&) {
    machine.OpenBy(deadline, absl::DeadlineExceededError(what));
  });
}

void SessionCore::KeepUntilEnded(std::shared_ptr<void> kept) {
  absl::MutexLock lock(&mu_);
  if (!finished_.has_value()) kept_ = std::move(kept);
}

void SessionCore::End(absl::Status why) {
  React([&](auto& machine, absl::Time, Actions& out) {
    machine.End(std::move(why), out);
  });
}

void SessionCore::EndUnlessOpen(absl::Status why) {
  React([&](auto& machine, absl::Time, Actions& out) {
    machine.EndUnlessOpen(std::move(why), out);
  });
}

void SessionCore::OnDrain() {
  React([](auto& machine, absl::Time, Actions& out) {
    machine.OnPeerDrains(out);
  });
}

void SessionCore::OnStreamEnded(absl::Status why) {
  if (!why.ok()) {
    why = absl::Status(why.code(),
                       absl::StrCat(Named(), " ended: ", why.message()));
  }
  React([&](auto& machine, absl::Time now, Actions& out) {
    machine.OnStreamEnded(now, std::move(why), out);
  });
}

void SessionCore::OnEnd(absl::AnyInvocable<void(SessionReport) &&> on_end) {
  if (absl::Status here = home_.Check(); !here.ok()) {
    return std::move(on_end)({.why = here});
  }
  SessionReport report;
  {
    absl::MutexLock lock(&mu_);
    if (!finished_.has_value()) {
      on_end_.push_back(std::move(on_end));
      return;
    }
    report = *finished_;
  }
  std::move(on_end)(report);
}

void SessionCore::Close(absl::Duration drain, Done<SessionReport> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  OnEnd([done = std::move(done)](SessionReport report) mutable {
    std::move(done)(std::move(report));
  });
  React([&](auto& machine, absl::Time now, Actions& out) {
    machine.Close(now, now + drain,
                  absl::CancelledError(absl::StrCat(
                      Named(), " was closed, and did not drain in time")),
                  out);
  });
}

std::shared_ptr<Session> SessionCore::MakeHandle() {
  auto self = shared_from_this();
  return std::shared_ptr<Session>(self.get(), [self](Session*) mutable {
    if (self->home_.IsThis()) return self->End(absl::OkStatus());
    // In a child nothing of the parent's may be destroyed.
    new std::shared_ptr<SessionCore>(std::move(self));
  });
}

// ---- what users do with it ----

std::string SessionCore::Named() const {
  return absl::StrCat("session ", id_, " with '", remote_.name, "'");
}

LinkCounters SessionCore::counters() const {
  if (!home_.IsThis()) return {};
  absl::MutexLock lock(&mu_);
  return link_ == nullptr ? final_counters_ : link_->counters();
}

absl::StatusOr<std::shared_ptr<Link>> SessionCore::LiveLink() const {
  FERRY_RETURN_IF_ERROR(home_.Check());
  absl::MutexLock lock(&mu_);
  if (machine_.live()) return link_;
  return absl::FailedPreconditionError(absl::StrCat(
      Named(), " is not open",
      machine_.state() == SessionMachine::State::kOpening
          ? std::string(" yet")
          : absl::StrCat("; it ended with: ",
                         machine_.why().ok() ? "closed as wished"
                                             : machine_.why().ToString())));
}

absl::StatusOr<std::shared_ptr<Link>> SessionCore::LinkToAnswer(
    const Envelope& request, absl::string_view function) const {
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<Link> link, LiveLink());
  if (request.kind == Envelope::Kind::kRequest) return link;
  return absl::InvalidArgumentError(
      absl::StrCat(function, " answers a message that was not sent by Call"));
}

template <class T>
Done<T> SessionCore::Contained(Done<T> done) {
  if (done == nullptr) return [](absl::StatusOr<T>) {};
  return [self = shared_from_this(),
          done = std::move(done)](absl::StatusOr<T> result) mutable {
    absl::Status ran =
        RunUserCode("a callback", [&] { std::move(done)(std::move(result)); });
    if (!ran.ok()) self->End(std::move(ran));
  };
}

Operation SessionCore::Here(Operation operation) const {
  return Operation([operation = std::move(operation), home = home_]() mutable {
    if (home.IsThis()) operation.Cancel();
  });
}

Operation SessionCore::Send(TensorMessage message, SendOptions options,
                            Done<Receipt> done) {
  done = Contained(std::move(done));
  auto link = LiveLink();
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return Here((*link)->Send(std::move(message), Envelope(), std::move(options),
                            std::move(done)));
}

Operation SessionCore::Receive(ReceiveOptions options, Done<Received> done) {
  done = Contained(std::move(done));
  auto link = LiveLink();
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  if (!options.filter.type.has_value()) {
    absl::MutexLock lock(&mu_);
    options.filter.except_types.insert(options.filter.except_types.end(),
                                       handled_types_.begin(),
                                       handled_types_.end());
  }
  return Here((*link)->Receive(std::move(options), std::move(done)));
}

Operation SessionCore::Call(TensorMessage request, CallOptions options,
                            Done<Received> done) {
  done = Contained(std::move(done));
  auto link = LiveLink();
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  uint64_t call;
  {
    absl::MutexLock lock(&mu_);
    call = next_call_++;
    machine_.OnCallBegun();
  }
  return Here(StartCall(
      **link, call, std::move(request), std::move(options),
      [self = shared_from_this(),
       done = std::move(done)](absl::StatusOr<Received> reply) mutable {
        std::move(done)(std::move(reply));
        self->Then (&SessionMachine::OnCallEnded)(absl::OkStatus());
      }));
}

Operation SessionCore::Reply(const Envelope& request, TensorMessage reply,
                             SendOptions options, Done<Receipt> done) {
  done = Contained(std::move(done));
  auto link = LinkToAnswer(request, "Reply");
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return Here((*link)->Send(
      std::move(reply), {.kind = Envelope::Kind::kReply, .call = request.call},
      std::move(options),
      [self = shared_from_this(), request,
       done = std::move(done)](absl::StatusOr<Receipt> sent) mutable {
        // Whoever called would wait for its deadline; if it does not wait any
        // more, it refuses this.
        if (!sent.ok()) {
          self->ReplyError(request, sent.status(), nullptr);
        }
        std::move(done)(std::move(sent));
      }));
}

Operation SessionCore::ReplyError(const Envelope& request, absl::Status error,
                                  Done<Receipt> done) {
  done = Contained(std::move(done));
  auto link = LinkToAnswer(request, "ReplyError");
  if (link.ok() && error.ok()) {
    link =
        absl::InvalidArgumentError("ReplyError needs a status other than OK");
  }
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return Here((*link)->Send(TensorMessage(),
                            {.kind = Envelope::Kind::kReply,
                             .call = request.call,
                             .reply_error = std::move(error)},
                            SendOptions(), std::move(done)));
}

absl::Status SessionCore::Handle(uint32_t type, Handler handler) {
  FERRY_RETURN_IF_ERROR(LiveLink().status());
  {
    absl::MutexLock lock(&mu_);
    if (!handled_types_.insert(type).second) {
      return absl::FailedPreconditionError(
          absl::StrCat("messages of type ", type, " have a handler already"));
    }
  }
  auto shared = std::make_shared<Handler>(std::move(handler));
  for (int i = 0; i < kHandlersInParallel; ++i) AwaitHandled(type, shared);
  return absl::OkStatus();
}

void SessionCore::AwaitHandled(uint32_t type,
                               std::shared_ptr<Handler> handler) {
  auto link = LiveLink();
  if (!link.ok() || (*link)->ended()) return;  // and its handlers with it
  ReceiveOptions options;
  options.filter.type = type;
  // What was acknowledged is handled, though the session may have ended since
  // and be held by nobody else. The end of the link lets go of this.
  auto handle = [self = shared_from_this(), type,
                 handler](absl::StatusOr<Received> received) {
    self->AwaitHandled(type, handler);
    if (received.ok()) self->RunHandler(*handler, *std::move(received));
  };
  (*link)->Receive(std::move(options), std::move(handle));
}

void SessionCore::RunHandler(Handler& handler, Received received) {
  const Envelope envelope = received.envelope;
  absl::Status ran =
      RunUserCode("a handler", [&] { handler(*this, std::move(received)); });
  if (ran.ok()) return;
  if (envelope.kind == Envelope::Kind::kRequest) {
    ReplyError(envelope, ran, nullptr);
  } else {
    End(ran);  // nobody else would hear of it
  }
}

}  // namespace tensorferry
