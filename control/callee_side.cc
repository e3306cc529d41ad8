#include "control/callee_side.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "control/grpc_status.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

// Streams that have not said `open` yet, beyond those that may become sessions.
constexpr int kMaxUnopened = 64;
// The same, of one identity: others keep some of them.
constexpr int kMaxUnopenedOfOne = 16;

// What the caller is told in place of an acceptance; OK would be no answer.
absl::Status Refusal(const absl::Status& why) {
  if (!why.ok()) return why;
  return absl::UnavailableError("the callee ended before the session was open");
}

}  // namespace

void CalleeSide::Start() {
  Begin();
  shared_->loop->Post([self = Self()] { self->Register(); });
  StartRead(&request_);
}

void CalleeSide::Register() {
  shared_->sides.insert(this);
  if (shared_->shutdown) return End(*shared_->shutdown, true);
  absl::Duration patience = shared_->options.lease;
  open_timer_ = loop()->RunAt(
      loop()->clock()->Now() + patience, [self = Self(), patience] {
        self->End(absl::DeadlineExceededError(absl::StrCat(
                      "no `open` within ", absl::FormatDuration(patience))),
                  true);
      });
}

void CalleeSide::OnReadDone(bool ok) {
  if (!ok) return loop()->Post([self = Self()] { self->OnReadFailed(); });
  // Negotiation and the host's Admit take their time; the loop has none.
  if (request_.has_open() && !open_came_.exchange(true)) {
    loop()->Post([self = Self()] {
      self->loop()->CancelTimer(self->open_timer_);
      self->Pause();
    });
    auto answer = shared_->Open(request_.open(), caller_, handle());
    loop()->Post([self = Self(), answer = std::move(answer)]() mutable {
      self->OnAnswer(std::move(answer));
    });
    return;
  }
  loop()->Post([self = Self(), request = std::move(request_)] {
    self->OnMessage(request);
  });
}

void CalleeSide::OnWriteDone(bool ok) {
  loop()->Post([self = Self(), ok] { self->WriteDone(ok); });
}

void CalleeSide::OnDone() {
  loop()->Post([self = Self()] { self->WireDone(); });
}

void CalleeSide::OnReadFailed() {
  read_over_ = true;
  if (close_with_) return FinishWire();
  End(absl::UnavailableError(
          "the caller closed or lost its control stream without a goodbye"),
      false);
  WireBroken();
}

void CalleeSide::OnAnswer(absl::StatusOr<Answer> answer) {
  if (!answer.ok()) {
    End(answer.status(), true);
    return Refuse();
  }
  answer_ = *std::move(answer);
  if (ending()) {  // while the host made up its mind
    Forget();
    if (ended()) TellEnd();
    return Refuse();
  }
  if (!shared_->table.Renew(answer_->session_id).ok()) {
    End(absl::UnavailableError("the callee took longer than its lease to "
                               "admit the session"),
        true);
    return Refuse();
  }
  shared_->by_id[answer_->session_id] = this;
  SendFirst({Signal::Kind::kAccepted, {}});
  GoLive(answer_->caller_lease);
  Resume();
  StartRead(&request_);
}

// What the host has said already is for a session that there will not be.
void CalleeSide::Refuse() {
  DropAllButGoodbye();
  Resume();
}

void CalleeSide::OnMessage(const pb::SessionRequest& request) {
  if (!ending() && CountMessage()) Handle(request);
  // To the end: after our goodbye the caller's half-close is waited for.
  if (!finished_) StartRead(&request_);
}

void CalleeSide::Handle(const pb::SessionRequest& request) {
  if (!answer_) {
    return End(absl::InvalidArgumentError(
                   "the first message of a session must be `open`"),
               true);
  }
  shared_->table.Renew(answer_->session_id).IgnoreError();
  switch (request.message_case()) {
    case pb::SessionRequest::kHeartbeat:
      return;
    case pb::SessionRequest::kDrain:
      shared_->table.MarkDraining(answer_->session_id).IgnoreError();
      return RunCallback([this] { answer_->events->OnDrain(); });
    case pb::SessionRequest::kGoodbye:
      return GoodbyeCame(request.goodbye());
    case pb::SessionRequest::kOpen:
      return End(absl::InvalidArgumentError(
                     "a second `open`: a stream carries one session"),
                 true);
    case pb::SessionRequest::MESSAGE_NOT_SET:
      return End(
          absl::InvalidArgumentError("an empty message on the control stream"),
          true);
  }
}

void CalleeSide::GoodbyeCame(const pb::Goodbye& goodbye) {
  absl::Status said;
  absl::Status valid = FromProto(goodbye.status(), "goodbye.status", &said);
  End(valid.ok() ? said : valid, !valid.ok());
}

void CalleeSide::StartWriteOf(const Signal& signal) {
  response_.Clear();
  switch (signal.kind) {
    case Signal::Kind::kAccepted:
      accepted_sent_ = true;
      *response_.mutable_accepted() = answer_->accepted;
      // The key has no business in here any longer.
      answer_->accepted.Clear();
      break;
    case Signal::Kind::kOpened:
      shared_->table.MarkOpen(answer_->session_id).IgnoreError();
      response_.mutable_opened();
      break;
    case Signal::Kind::kHeartbeat:
      response_.mutable_heartbeat();
      break;
    case Signal::Kind::kDrain:
      shared_->table.MarkDraining(answer_->session_id).IgnoreError();
      response_.mutable_drain();
      break;
    case Signal::Kind::kGoodbye:
      said_goodbye_ = true;
      *response_.mutable_goodbye()->mutable_status() =
          ToProto(accepted_sent_ ? signal.status : Refusal(signal.status));
      break;
    case Signal::Kind::kOpen:
      break;  // the caller's
  }
  StartWrite(&response_);
}

// gRPC reports its end once the status is sent, not once the caller has read
// the goodbye. The caller's half-close says that it has.
void CalleeSide::CloseWire(const absl::Status& why) {
  close_with_ = ToGrpcStatus(accepted_sent_ ? why : Refusal(why));
  if (!said_goodbye_ || !accepted_sent_ || read_over_) FinishWire();
}

void CalleeSide::FinishWire() {
  if (std::exchange(finished_, true)) return;
  Finish(*close_with_);
}

// Until Finish there is no OnDone, and the context is there.
void CalleeSide::CancelWire() {
  if (close_with_) return FinishWire();
  CancelCall();
}

void CalleeSide::OnEnding() {
  loop()->CancelTimer(open_timer_);
  if (answer_) Forget();
}

void CalleeSide::OnEnded() {
  if (answer_) TellEnd();
}

void CalleeSide::OnGone() {
  shared_->sides.erase(this);
  shared_->RemoveStream(caller_);
}

void CalleeSide::Forget() {
  shared_->table.Remove(answer_->session_id).IgnoreError();
  shared_->by_id.erase(answer_->session_id);
}

void CalleeSide::TellEnd() {
  std::shared_ptr<ControlEvents> events = std::move(answer_->events);
  RunCallback([&] { events->OnStreamEnded(why()); });
}

int ServiceShared::MostSessions(const Grants& grants) const {
  return options.max_sessions_per_identity > 0
             ? std::min(grants.sessions, options.max_sessions_per_identity)
             : grants.sessions;
}

absl::Status ServiceShared::AddStream(const Caller& caller) {
  const int most = options.max_sessions + kMaxUnopened;
  const int most_of_one =
      std::min(MostSessions(caller.grants), options.max_sessions) +
      kMaxUnopenedOfOne;
  absl::MutexLock lock(&mu);
  if (streams >= most) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", streams,
                     " control streams, the limit (max_sessions, and ",
                     kMaxUnopened, " more)"));
  }
  const IdentityCounts::Count own = streams_of.Most(caller.identity);
  if (own.count >= most_of_one) {
    return absl::ResourceExhaustedError(
        absl::StrCat(own.principal, " has ", own.count,
                     " control streams, its limit (sessions "
                     "of its policy, or sessions_per_identity, and ",
                     kMaxUnopenedOfOne, " more)"));
  }
  ++streams;
  streams_of.Add(caller.identity);
  return absl::OkStatus();
}

void ServiceShared::RemoveStream(const Caller& caller) {
  absl::MutexLock lock(&mu);
  streams_of.Remove(caller.identity);
  --streams;
}

// On a gRPC thread.
absl::StatusOr<Answer> ServiceShared::Open(
    const pb::Open& open, const Caller& by,
    std::shared_ptr<ControlStream> stream) {
  return CatchExceptions("the host",
                         [&] { return Admit(open, by, std::move(stream)); });
}

absl::StatusOr<Answer> ServiceShared::Admit(
    const pb::Open& open, const Caller& by,
    std::shared_ptr<ControlStream> stream) {
  FERRY_ASSIGN_OR_RETURN(Offer offer, FromProto(open.offer(), "open.offer"));
  FERRY_ASSIGN_OR_RETURN(Capabilities caller,
                         FromProto(open.caller(), "open.caller"));
  Capabilities callee = host->GetCapabilities();
  if (stopping) {
    return absl::UnavailableError(
        absl::StrCat("callee \"", callee.peer.name,
                     "\" is going and opens no sessions; try another"));
  }
  // Asked again: the stream may have come long before its `open`.
  const Grants grants = options.access->GrantsOf(by.identity);
  FERRY_ASSIGN_OR_RETURN(const Policy policy,
                         Restrict(host->GetPolicy(), grants, by.identity));
  FERRY_ASSIGN_OR_RETURN(SessionPlan plan,
                         Negotiate(offer, caller, callee, policy));
  // Explain tells them; here they would be kept for as long as the session.
  for (PathChoice& choice : plan.paths) choice.refused.clear();
  Answer answer;
  FERRY_ASSIGN_OR_RETURN(answer.session_id,
                         table.Add(plan, by.identity, MostSessions(grants)));
  absl::Cleanup refused = [this, &answer] {
    table.Remove(answer.session_id).IgnoreError();
  };
  *answer.accepted.mutable_plan() = ToProto(plan);
  answer.accepted.set_plan_digest(Digest(plan));
  FERRY_ASSIGN_OR_RETURN(
      SessionHost::Admitted admitted,
      host->Admit(answer.session_id, plan, by.identity, std::move(stream)));
  absl::Cleanup untold = [&admitted] {
    CatchExceptions("ending a session", [&] {
      admitted.events->OnStreamEnded(absl::UnavailableError(
          "the caller could not be told of the session"));
    }).IgnoreError();
  };
  admitted.ticket.session_id = answer.session_id;
  *answer.accepted.mutable_ticket() = ToProto(admitted.ticket);
  answer.accepted.set_lease_ms(control_proto::LeaseMs(options.lease));
  answer.caller_lease = control_proto::LeaseOf(open.lease_ms());
  std::move(untold).Cancel();
  std::move(refused).Cancel();
  answer.events = std::move(admitted.events);
  return answer;
}

void ServiceShared::Sweep() {
  for (const SessionRecord& expired : table.TakeExpired()) {
    auto side = by_id.find(expired.id);
    if (side == by_id.end()) continue;
    side->second->EndUnheard(absl::UnavailableError(
        absl::StrCat("caller \"", expired.plan.caller.name,
                     "\" was silent for ", absl::FormatDuration(options.lease),
                     ", so session ", expired.id, " ended")));
  }
  // Sessions to come end a lease from now at the earliest.
  const absl::Time next =
      std::min(table.NextExpiry(), loop->clock()->Now() + options.lease);
  // Behind what has come already, if the loop was busy.
  loop->RunAt(next, [this] { loop->Post([this] { Sweep(); }); });
}

void ServiceShared::AwaitNoStreams() {
  absl::MutexLock lock(&mu);
  auto none = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return streams == 0; };
  mu.Await(absl::Condition(&none));
}

}  // namespace tensorferry
