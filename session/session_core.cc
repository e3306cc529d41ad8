#include "session/session_core.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "session/call.h"

namespace tensorferry {
namespace {

// Messages of one type that a handler may have arriving at the same time.
constexpr int kHandlersInParallel = 4;

}  // namespace

SessionCore::SessionCore(Environment environment,
                         Done<std::shared_ptr<Session>> on_open)
    : environment_(std::move(environment)), on_open_(std::move(on_open)) {}

void SessionCore::Begin(std::string id, SessionPlan plan, PeerId remote,
                        std::shared_ptr<ControlStream> stream) {
  id_ = std::move(id);
  plan_ = std::move(plan);
  remote_ = std::move(remote);
  stream_ = std::move(stream);
}

void SessionCore::Attach(std::shared_ptr<Link> link) {
  absl::Status why;
  {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kOpening) {
      link_ = std::move(link);
    } else {
      why = why_;
    }
  }
  if (link != nullptr) {  // too late: the session ended meanwhile
    link->Close(why, [link](absl::Status) {});
    return;
  }
  OpenIfReady();
}

void SessionCore::LanesReady() {
  {
    absl::MutexLock lock(&mu_);
    lanes_ready_ = true;
  }
  OpenIfReady();
}

void SessionCore::KeepUntilEnded(std::shared_ptr<void> kept) {
  absl::MutexLock lock(&mu_);
  if (state_ != State::kEnded) kept_ = std::move(kept);
}

void SessionCore::OpenIfReady() {
  Done<std::shared_ptr<Session>> on_open;
  {
    absl::MutexLock lock(&mu_);
    if (state_ != State::kOpening || link_ == nullptr || !lanes_ready_) return;
    state_ = State::kOpen;
    on_open = std::move(on_open_);
  }
  std::move(on_open)(MakeHandle());
}

void SessionCore::EndUnlessOpen(absl::Status why) {
  {
    absl::MutexLock lock(&mu_);
    if (state_ != State::kOpening) return;
  }
  End(std::move(why));
}

void SessionCore::End(absl::Status why) {
  Done<std::shared_ptr<Session>> on_open;
  std::shared_ptr<Link> link;
  Loop::TimerId timer = 0;
  {
    absl::MutexLock lock(&mu_);
    if (state_ >= State::kEnding) return;
    state_ = State::kEnding;
    why_ = why;
    on_open = std::move(on_open_);
    link = link_;
    timer = drain_timer_;
  }
  environment_.loop->CancelTimer(timer);
  if (stream_ != nullptr) stream_->SendGoodbye(why);
  if (on_open) {
    std::move(on_open)(why.ok() ? absl::CancelledError(
                                      "the session was closed while it opened")
                                : why);
  }
  auto self = shared_from_this();
  if (link == nullptr) return Ended();
  link->Close(why, [self](absl::Status) { self->Ended(); });
}

void SessionCore::Ended() {
  std::vector<absl::AnyInvocable<void(SessionReport) &&>> on_end;
  std::shared_ptr<Link> link;
  std::shared_ptr<void> kept;
  SessionReport report;
  {
    absl::MutexLock lock(&mu_);
    state_ = State::kEnded;
    if (link_ != nullptr) final_counters_ = link_->counters();
    link = std::move(link_);
    kept = std::move(kept_);
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
  std::shared_ptr<Link> link;
  {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kOpen) state_ = State::kDraining;
    if (state_ != State::kDraining) return;
    link = link_;
  }
  // Both sides are done once ours is: the peer asks after it has drained.
  link->Drain([self = shared_from_this()](absl::Status drained) {
    if (drained.ok()) self->stream_->SendGoodbye(absl::OkStatus());
  });
}

void SessionCore::OnEnd(absl::Status why) { End(std::move(why)); }

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
    options.filter.except_types.assign(handled_types_.begin(),
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
  }
  return StartCall(**link, call, std::move(request), std::move(options),
                   std::move(done));
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
  return (*link)->Send(std::move(reply),
                       {.kind = Envelope::Kind::kReply, .call = request.call},
                       std::move(options), std::move(done));
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
    // A link that has closed refuses; anything else concerns one message
    // only (its digest, its sender's cancellation).
    if (absl::IsFailedPrecondition(received.status())) return;
    self->AwaitHandled(type, handler);
    if (received.ok()) self->RunHandler(*handler, *std::move(received));
  });
}

void SessionCore::RunHandler(Handler& handler, Received received) {
  const Envelope envelope = received.envelope;
  absl::Status thrown;
  try {
    handler(*this, std::move(received));
    return;
  } catch (const std::exception& e) {
    thrown = absl::InternalError(absl::StrCat("a handler threw: ", e.what()));
  } catch (...) {
    thrown = absl::InternalError("a handler threw");
  }
  if (envelope.kind == Envelope::Kind::kRequest) {
    ReplyError(envelope, thrown, [](absl::StatusOr<Receipt>) {});
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
  bool open = false;
  {
    absl::MutexLock lock(&mu_);
    if (closing_) return;
    closing_ = true;
    open = state_ == State::kOpen || state_ == State::kDraining;
  }
  if (open && drain > absl::ZeroDuration()) return StartDrain(drain);
  End(absl::OkStatus());
}

// Ours first: once our sends are through, the peer is asked for the same and
// says goodbye when it is done (OnDrain there, OnEnd here).
void SessionCore::StartDrain(absl::Duration drain) {
  const absl::Time deadline = environment_.loop->clock()->Now() + drain;
  std::shared_ptr<Link> link;
  {
    absl::MutexLock lock(&mu_);
    if (state_ >= State::kEnding) return;
    state_ = State::kDraining;
    link = link_;
    drain_timer_ =
        environment_.loop->RunAt(deadline, [weak = weak_from_this(), drain] {
          if (auto self = weak.lock()) {
            self->End(absl::CancelledError(absl::StrCat(
                "session ", self->id_, " was closed; it did not drain within ",
                absl::FormatDuration(drain))));
          }
        });
  }
  link->Drain([self = shared_from_this()](absl::Status drained) {
    if (drained.ok()) self->stream_->SendDrain();
  });
}

}  // namespace tensorferry
