#include "session/session_core.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "session/call.h"
#include "session/user_code.h"

namespace tensorferry {
namespace {

// Messages of one type that a handler may have arriving at the same time.
constexpr int kHandlersInParallel = 4;

// How long a drained session's last words may take after the goodbye.
constexpr absl::Duration kLastWords = absl::Seconds(2);

}  // namespace

SessionCore::SessionCore(Environment environment,
                         Done<std::shared_ptr<Session>> on_open)
    : environment_(std::move(environment)), on_open_(std::move(on_open)) {}

bool SessionCore::Begin(std::string id, SessionPlan plan, PeerId remote,
                        std::shared_ptr<ControlStream> stream) {
  absl::Status why;
  {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kOpening) {
      id_ = std::move(id);
      plan_ = std::move(plan);
      remote_ = std::move(remote);
      stream_ = std::move(stream);
      return true;
    }
    why = why_;
  }
  stream->SendGoodbye(why);
  return false;
}

void SessionCore::Attach(std::shared_ptr<Link> link) {
  absl::Status why;
  bool late = false;
  {
    absl::MutexLock lock(&mu_);
    late = state_ != State::kOpening;
    if (late) {
      why = why_;
    } else {
      link_ = link;
    }
  }
  if (late) return link->Close(why, [link](absl::Status) {});
  OpenIfReady();
}

void SessionCore::CalleeReady() {
  {
    absl::MutexLock lock(&mu_);
    callee_ready_ = true;
  }
  OpenIfReady();
}

void SessionCore::OpenBefore(absl::Time deadline, std::string what) {
  absl::MutexLock lock(&mu_);
  if (state_ != State::kOpening) return;
  open_timer_ = environment_.loop->RunAt(
      deadline, [weak = weak_from_this(), what = std::move(what)] {
        if (auto self = weak.lock()) {
          self->EndUnlessOpen(absl::DeadlineExceededError(what));
        }
      });
}

void SessionCore::KeepUntilEnded(std::shared_ptr<void> kept) {
  absl::MutexLock lock(&mu_);
  if (state_ != State::kEnded) kept_ = std::move(kept);
}

void SessionCore::OpenIfReady() {
  Done<std::shared_ptr<Session>> on_open;
  bool peer_drains = false;
  {
    absl::MutexLock lock(&mu_);
    if (state_ != State::kOpening || link_ == nullptr || !callee_ready_) return;
    state_ = State::kOpen;
    on_open = std::move(on_open_);
    telling_open_ = true;
    peer_drains = peer_drains_;
    environment_.loop->CancelTimer(open_timer_);
  }
  TellOpen(std::move(on_open), MakeHandle());
  if (peer_drains) DrainLink();
}

void SessionCore::TellOpen(Done<std::shared_ptr<Session>> on_open,
                           absl::StatusOr<std::shared_ptr<Session>> session) {
  std::move(on_open)(std::move(session));
  bool ended = false;
  {
    absl::MutexLock lock(&mu_);
    telling_open_ = false;
    ended = end_waits_;
  }
  if (ended) Ended();
}

// The goodbye goes first and the link closes once the stream has ended, so that
// the peer hears why before its lanes break.
void SessionCore::EndIf(State latest, absl::Status why) {
  Done<std::shared_ptr<Session>> on_open;
  std::shared_ptr<ControlStream> stream;
  std::shared_ptr<Link> link;
  {
    absl::MutexLock lock(&mu_);
    if (state_ > latest) return;
    state_ = State::kEnding;
    why_ = why;
    on_open = std::move(on_open_);
    telling_open_ |= static_cast<bool>(on_open);
    if (!stream_ended_) stream = stream_;
    link = link_;
    environment_.loop->CancelTimer(open_timer_);
    environment_.loop->CancelTimer(drain_timer_);
  }
  if (link != nullptr) link->AnnounceEnd(why);
  if (stream != nullptr) stream->SendGoodbye(why);
  if (on_open) {
    TellOpen(std::move(on_open),
             why.ok() ? absl::CancelledError(
                            "the session was closed while it opened")
                      : why);
  }
  if (stream == nullptr) CloseLink();
}

void SessionCore::OnEnd(absl::Status why) {
  bool ending = false;
  {
    absl::MutexLock lock(&mu_);
    stream_ended_ = true;
    ending = state_ >= State::kEnding;
  }
  if (ending) return CloseLink();
  End(why.ok()
          ? why
          : absl::Status(why.code(),
                         absl::StrCat("session ", id_, " with '", remote_.name,
                                      "' ended: ", why.message())));
}

// After a drain the last words may still be on their way: an ACK travels apart
// from the goodbye.
void SessionCore::CloseLink() {
  std::shared_ptr<Link> link;
  bool drained = false;
  {
    absl::MutexLock lock(&mu_);
    if (std::exchange(link_closing_, true)) return;
    link = link_;
    drained = link_drains_ && why_.ok();
    if (drained && link != nullptr) {
      environment_.loop->RunAt(environment_.loop->clock()->Now() + kLastWords,
                               [weak = weak_from_this()] {
                                 if (auto self = weak.lock()) self->CutLink();
                               });
    }
  }
  if (link == nullptr) return Ended();
  if (!drained) return CutLink();
  link->Drain([self = shared_from_this()](absl::Status) { self->CutLink(); });
}

void SessionCore::CutLink() {
  std::shared_ptr<Link> link;
  absl::Status why;
  {
    absl::MutexLock lock(&mu_);
    if (std::exchange(link_cut_, true)) return;
    link = link_;
    why = why_;
  }
  link->Close(why,
              [self = shared_from_this()](absl::Status) { self->Ended(); });
}

void SessionCore::Ended() {
  std::vector<absl::AnyInvocable<void(SessionReport) &&>> on_end;
  std::shared_ptr<Link> link;
  std::shared_ptr<void> kept;
  SessionReport report;
  {
    absl::MutexLock lock(&mu_);
    end_waits_ = telling_open_;
    if (end_waits_) return;
    state_ = State::kEnded;
    if (link_ != nullptr) final_counters_ = link_->counters();
    link = std::exchange(link_, nullptr);
    kept = std::exchange(kept_, nullptr);
    on_end = std::move(on_end_);
    report = ReportLocked();
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

std::shared_ptr<Session> SessionCore::MakeHandle() {
  auto self = shared_from_this();
  return std::shared_ptr<Session>(
      self.get(), [self](Session*) { self->End(absl::OkStatus()); });
}

void SessionCore::OnDrain() {
  {
    absl::MutexLock lock(&mu_);
    if (peer_drains_ || state_ >= State::kEnding) return;
    peer_drains_ = true;
    if (state_ == State::kOpening) return;  // OpenIfReady comes back to it
  }
  DrainLink();
}

// No new sends from here on; goes on once those begun are through.
void SessionCore::DrainLink() {
  std::shared_ptr<Link> link;
  {
    absl::MutexLock lock(&mu_);
    if (state_ >= State::kEnding) return;
    state_ = State::kDraining;
    if (!std::exchange(link_drains_, true)) link = link_;
  }
  if (link == nullptr) return OnProgressOfDrain();
  link->Drain([self = shared_from_this()](absl::Status drained) {
    if (!drained.ok()) return;  // the link ended first
    {
      absl::MutexLock lock(&self->mu_);
      self->link_drained_ = true;
    }
    self->OnProgressOfDrain();
  });
}

// Ours first: once our sends and calls are through, the peer is asked for the
// same, or told goodbye if it has asked.
void SessionCore::OnProgressOfDrain() {
  std::shared_ptr<ControlStream> stream;
  bool goodbye = false;
  {
    absl::MutexLock lock(&mu_);
    if (state_ != State::kDraining || !link_drained_ || calls_ > 0) return;
    stream = stream_;
    goodbye = peer_drains_;
    if (!goodbye && std::exchange(drain_asked_, true)) return;
  }
  if (goodbye) return End(absl::OkStatus());
  stream->SendDrain();
}

void SessionCore::CallEnded() {
  {
    absl::MutexLock lock(&mu_);
    --calls_;
  }
  OnProgressOfDrain();
}

LinkCounters SessionCore::counters() const {
  absl::MutexLock lock(&mu_);
  return link_ == nullptr ? final_counters_ : link_->counters();
}

absl::StatusOr<std::shared_ptr<Link>> SessionCore::LiveLink() const {
  absl::MutexLock lock(&mu_);
  if (state_ == State::kOpen || state_ == State::kDraining) return link_;
  return absl::FailedPreconditionError(absl::StrCat(
      "session ", id_, " with '", remote_.name, "' is not open",
      state_ == State::kOpening
          ? std::string(" yet")
          : absl::StrCat("; it ended with: ",
                         why_.ok() ? "closed as wished" : why_.ToString())));
}

Operation SessionCore::Send(TensorMessage message, SendOptions options,
                            Done<Receipt> done) {
  auto link = LiveLink();
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return (*link)->Send(std::move(message), Envelope(), std::move(options),
                       std::move(done));
}

Operation SessionCore::Receive(ReceiveOptions options, Done<Received> done) {
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
  return (*link)->Receive(std::move(options), std::move(done));
}

Operation SessionCore::Call(TensorMessage request, CallOptions options,
                            Done<Received> done) {
  auto link = LiveLink();
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  uint64_t call;
  {
    absl::MutexLock lock(&mu_);
    call = next_call_++;
    ++calls_;
  }
  return StartCall(**link, call, std::move(request), std::move(options),
                   [self = shared_from_this(), done = std::move(done)](
                       absl::StatusOr<Received> reply) mutable {
                     std::move(done)(std::move(reply));
                     self->CallEnded();
                   });
}

Operation SessionCore::Reply(const Envelope& request, TensorMessage reply,
                             SendOptions options, Done<Receipt> done) {
  auto link = LiveLink();
  if (link.ok() && request.kind != Envelope::Kind::kRequest) {
    link = absl::InvalidArgumentError(
        "Reply answers a message that was not sent by Call");
  }
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return (*link)->Send(
      std::move(reply), {.kind = Envelope::Kind::kReply, .call = request.call},
      std::move(options),
      [self = shared_from_this(), request,
       done = std::move(done)](absl::StatusOr<Receipt> sent) mutable {
        // Whoever called would wait for its deadline; if it does not wait any
        // more, it refuses this.
        if (!sent.ok()) {
          self->ReplyError(request, sent.status(),
                           [](absl::StatusOr<Receipt>) {});
        }
        std::move(done)(std::move(sent));
      });
}

Operation SessionCore::ReplyError(const Envelope& request, absl::Status error,
                                  Done<Receipt> done) {
  auto link = LiveLink();
  if (link.ok() && request.kind != Envelope::Kind::kRequest) {
    link = absl::InvalidArgumentError(
        "ReplyError answers a message that was not sent by Call");
  }
  if (link.ok() && error.ok()) {
    link =
        absl::InvalidArgumentError("ReplyError needs a status other than OK");
  }
  if (!link.ok()) {
    std::move(done)(link.status());
    return Operation();
  }
  return (*link)->Send(TensorMessage(),
                       {.kind = Envelope::Kind::kReply,
                        .call = request.call,
                        .reply_error = std::move(error)},
                       SendOptions(), std::move(done));
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
  if (!link.ok()) return;  // the session ended, and its handlers with it
  ReceiveOptions options;
  options.filter.type = type;
  (*link)->Receive(std::move(options), [weak = weak_from_this(), type, handler](
                                           absl::StatusOr<Received> received) {
    auto self = weak.lock();
    if (self == nullptr) return;
    if (received.ok()) {
      self->AwaitHandled(type, handler);
      return self->RunHandler(*handler, *std::move(received));
    }
    // One message went wrong, or the link is closing: then it refuses at once,
    // and the session's end must get a turn before the next try.
    absl::MutexLock lock(&self->mu_);
    if (self->state_ == State::kEnded) return;
    self->environment_.loop->Post([weak, type, handler] {
      if (auto self = weak.lock()) self->AwaitHandled(type, handler);
    });
  });
}

void SessionCore::RunHandler(Handler& handler, Received received) {
  const Envelope envelope = received.envelope;
  absl::Status ran =
      RunUserCode("a handler", [&] { handler(*this, std::move(received)); });
  if (ran.ok()) return;
  if (envelope.kind == Envelope::Kind::kRequest) {
    ReplyError(envelope, ran, [](absl::StatusOr<Receipt>) {});
  } else {
    End(ran);  // nobody else would hear of it
  }
}

SessionReport SessionCore::ReportLocked() const {
  return {.why = why_, .counters = final_counters_};
}

void SessionCore::OnEnd(absl::AnyInvocable<void(SessionReport) &&> on_end) {
  SessionReport report;
  {
    absl::MutexLock lock(&mu_);
    if (state_ != State::kEnded) {
      on_end_.push_back(std::move(on_end));
      return;
    }
    report = ReportLocked();
  }
  std::move(on_end)(report);
}

void SessionCore::Close(absl::Duration drain, Done<SessionReport> done) {
  OnEnd([done = std::move(done)](SessionReport report) mutable {
    std::move(done)(std::move(report));
  });
  bool drains = false;
  {
    absl::MutexLock lock(&mu_);
    drains = drain > absl::ZeroDuration() &&
             (state_ == State::kOpen || state_ == State::kDraining);
  }
  if (!drains) return End(absl::OkStatus());
  DrainWithin(drain);
  DrainLink();
}

// The earliest of all drain times counts.
void SessionCore::DrainWithin(absl::Duration drain) {
  absl::MutexLock lock(&mu_);
  if (state_ >= State::kEnding) return;
  absl::Time deadline = environment_.loop->clock()->Now() + drain;
  if (deadline >= drain_by_) return;
  drain_by_ = deadline;
  environment_.loop->CancelTimer(drain_timer_);
  drain_timer_ = environment_.loop->RunAt(deadline, [weak = weak_from_this()] {
    if (auto self = weak.lock()) {
      self->End(absl::CancelledError(
          absl::StrCat("session ", self->id_, " with '", self->remote_.name,
                       "' was closed, and did not drain in time")));
    }
  });
}

}  // namespace tensorferry
