#include "control/control_service.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/loop.h"
#include "base/status_macros.h"
#include "control/control.grpc.pb.h"
#include "control/grpc_status.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"
#include "control/stream_side.h"
#include "grpcpp/server_builder.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

// Streams that have not said `open` yet, beyond those that may become sessions.
constexpr int kMaxUnopened = 64;

// What an accepted `open` led to.
struct Answer {
  std::string session_id;
  pb::Accepted accepted;
  std::shared_ptr<ControlEvents> events;
  absl::Duration caller_lease;
};

class CalleeSide;

// What the sessions share. Everything but the atomics and what is thread-safe
// by itself belongs to the loop.
struct Shared {
  Shared(SessionHost* host_in, const ControlServiceOptions& options_in)
      : host(host_in),
        options(options_in),
        table(options_in.clock, options_in.lease, options_in.max_sessions),
        loop(options_in.clock) {}

  absl::StatusOr<Answer> Open(const pb::Open& open,
                              std::shared_ptr<ControlStream> stream);
  size_t MostStreams() const {
    return static_cast<size_t>(options.max_sessions) + kMaxUnopened;
  }
  void Sweep();
  void AwaitNoStreams();

  SessionHost* const host;
  const ControlServiceOptions options;
  SessionTable table;
  std::atomic<bool> draining{false};

  std::set<CalleeSide*> sides;  // each keeps itself alive while in here
  std::map<std::string, CalleeSide*> by_id;
  std::optional<absl::Status> shutdown;

  absl::Mutex mu;
  int streams ABSL_GUARDED_BY(mu) = 0;
  Loop loop;  // the first to go: its tasks use the others
};

// The callee's side of one session.
class CalleeSide
    : public StreamSide,
      public grpc::ServerBidiReactor<pb::SessionRequest, pb::SessionResponse> {
 public:
  CalleeSide(Shared* shared, grpc::CallbackServerContext* context)
      : StreamSide(Role::kCallee, &shared->loop, shared->options.heartbeat),
        shared_(shared),
        context_(context) {}

  void Start() {
    Begin();
    shared_->loop.Post([self = Self()] { self->Register(); });
    StartRead(&request_);
  }

  // gRPC's threads.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override {
    loop()->Post([self = Self(), ok] { self->WriteDone(ok); });
  }
  void OnDone() override {
    loop()->Post([self = Self()] { self->WireDone(); });
  }

 private:
  std::shared_ptr<CalleeSide> Self() {
    return std::static_pointer_cast<CalleeSide>(shared_from_this());
  }

  void Register();
  void OnReadFailed();
  void OnMessage(const pb::SessionRequest& request);
  void Handle(const pb::SessionRequest& request);
  void OnAnswer(absl::StatusOr<Answer> answer);
  void Refuse();
  void Forget();
  void TellEnd();
  void GoodbyeCame(const pb::Goodbye& goodbye);

  void StartWriteOf(const Signal& signal) override;
  void CloseWire(const absl::Status& why) override;
  void CancelWire() override;
  void OnEnding() override;
  void OnEnded() override;
  void OnGone() override;

  Shared* const shared_;
  grpc::CallbackServerContext* const context_;
  std::atomic<bool> open_came_{false};
  pb::SessionRequest request_;    // gRPC's while a read is under way
  pb::SessionResponse response_;  // gRPC's while a write is under way
  // The loop's.
  bool finished_ = false;  // context_ may be gone
  Loop::TimerId open_timer_ = 0;
  std::optional<Answer> answer_;
};

void CalleeSide::Register() {
  shared_->sides.insert(this);
  if (shared_->shutdown) return End(*shared_->shutdown, true);
  if (shared_->sides.size() > shared_->MostStreams()) {
    return End(
        absl::ResourceExhaustedError(absl::StrCat(
            "more than ", shared_->MostStreams(), " control streams at once")),
        true);
  }
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
    loop()->Post([self = Self()] { self->Pause(); });
    auto answer = shared_->Open(request_.open(), handle());
    loop()->Post([self = Self(), answer = std::move(answer)]() mutable {
      self->OnAnswer(std::move(answer));
    });
    return;
  }
  loop()->Post([self = Self(), request = std::move(request_)] {
    self->OnMessage(request);
  });
}

void CalleeSide::OnReadFailed() {
  End(absl::UnavailableError(
          "the caller closed or lost its control stream without a goodbye"),
      false);
  WireBroken();
}

void CalleeSide::OnAnswer(absl::StatusOr<Answer> answer) {
  loop()->CancelTimer(open_timer_);
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
  shared_->by_id[answer_->session_id] = this;
  SendFirst({Signal::Kind::kAccepted, {}});
  if (shared_->draining) Send({Signal::Kind::kDrain, {}});
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
  if (ending()) return;
  if (CountMessage()) Handle(request);
  if (!ending()) StartRead(&request_);
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
      return answer_->events->OnDrain();
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
      *response_.mutable_goodbye()->mutable_status() = ToProto(signal.status);
      break;
    case Signal::Kind::kOpen:
      break;  // the caller's
  }
  StartWrite(&response_);
}

void CalleeSide::CloseWire(const absl::Status& why) {
  finished_ = true;
  Finish(ToGrpcStatus(why));
}

// Until Finish there is no OnDone, and the context is there.
void CalleeSide::CancelWire() {
  if (!finished_) context_->TryCancel();
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
  absl::MutexLock lock(&shared_->mu);
  --shared_->streams;
}

void CalleeSide::Forget() {
  shared_->table.Remove(answer_->session_id).IgnoreError();
  shared_->by_id.erase(answer_->session_id);
}

void CalleeSide::TellEnd() {
  std::shared_ptr<ControlEvents> events = std::move(answer_->events);
  events->OnEnd(TakeWhy());
}

// On a gRPC thread.
absl::StatusOr<Answer> Shared::Open(const pb::Open& open,
                                    std::shared_ptr<ControlStream> stream) {
  FERRY_ASSIGN_OR_RETURN(Offer offer, FromProto(open.offer(), "open.offer"));
  FERRY_ASSIGN_OR_RETURN(Capabilities caller,
                         FromProto(open.caller(), "open.caller"));
  Capabilities callee = host->GetCapabilities();
  if (draining) {
    return absl::UnavailableError(
        absl::StrCat("callee \"", callee.peer.name,
                     "\" is draining and opens no sessions; try another"));
  }
  FERRY_ASSIGN_OR_RETURN(SessionPlan plan,
                         Negotiate(offer, caller, callee, host->GetPolicy()));
  Answer answer;
  FERRY_ASSIGN_OR_RETURN(answer.session_id, table.Add(plan));
  auto admitted = host->Admit(answer.session_id, plan, std::move(stream));
  if (!admitted.ok()) {
    table.Remove(answer.session_id).IgnoreError();
    return admitted.status();
  }
  admitted->ticket.session_id = answer.session_id;
  *answer.accepted.mutable_plan() = ToProto(plan);
  answer.accepted.set_plan_digest(Digest(plan));
  *answer.accepted.mutable_ticket() = ToProto(admitted->ticket);
  answer.accepted.set_lease_ms(control_proto::LeaseMs(options.lease));
  answer.events = std::move(admitted->events);
  answer.caller_lease = control_proto::LeaseOf(open.lease_ms());
  return answer;
}

void Shared::Sweep() {
  for (const SessionRecord& expired : table.TakeExpired()) {
    auto side = by_id.find(expired.id);
    if (side == by_id.end()) continue;
    side->second->End(
        absl::UnavailableError(absl::StrCat(
            "caller \"", expired.plan.caller.name, "\" was silent for ",
            absl::FormatDuration(options.lease), ", so session ", expired.id,
            " ended")),
        true);
  }
  absl::Duration pause = std::min(options.heartbeat, options.lease / 4);
  loop.RunAt(loop.clock()->Now() + pause, [this] { Sweep(); });
}

void Shared::AwaitNoStreams() {
  absl::MutexLock lock(&mu);
  auto none = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return streams == 0; };
  mu.Await(absl::Condition(&none));
}

}  // namespace

class ControlService::Impl : public pb::Control::CallbackService {
 public:
  Impl(SessionHost* host, const ControlServiceOptions& options)
      : shared_(host, options) {
    shared_.loop.Post([this] { shared_.Sweep(); });
  }
  ~Impl() override {
    shared_.draining = true;
    Post([](Shared& shared) {
      shared.shutdown = absl::UnavailableError("the callee is gone");
      for (CalleeSide* side : Copy(shared.sides)) side->Cut(*shared.shutdown);
    });
    shared_.AwaitNoStreams();
  }

  void StartDrain() {
    shared_.draining = true;
    Post([](Shared& shared) {
      for (const auto& [id, side] : Copy(shared.by_id)) {
        side->Send({Signal::Kind::kDrain, {}});
      }
    });
  }
  void Shutdown(absl::Status why) {
    shared_.draining = true;
    Post([why = std::move(why)](Shared& shared) {
      if (!shared.shutdown) shared.shutdown = why;
      for (CalleeSide* side : Copy(shared.sides)) side->End(why, true);
    });
  }
  const SessionTable& table() const { return shared_.table; }

  grpc::ServerUnaryReactor* GetCapabilities(
      grpc::CallbackServerContext* context, const pb::GetCapabilitiesRequest*,
      pb::GetCapabilitiesResponse* response) override {
    *response->mutable_capabilities() =
        ToProto(shared_.host->GetCapabilities());
    return Finished(context, absl::OkStatus());
  }
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const pb::ExplainRequest* request,
                                    pb::ExplainResponse* response) override {
    return Finished(context, Explain(*request, response));
  }
  grpc::ServerUnaryReactor* ListSessions(
      grpc::CallbackServerContext* context, const pb::ListSessionsRequest*,
      pb::ListSessionsResponse* response) override {
    for (SessionRecord& record : shared_.table.List()) {
      std::tie(record.bytes_sent, record.bytes_received) =
          shared_.host->BytesMoved(record.id);
      *response->add_sessions() = ToProto(record);
    }
    return Finished(context, absl::OkStatus());
  }
  grpc::ServerUnaryReactor* CloseSession(grpc::CallbackServerContext* context,
                                         const pb::CloseSessionRequest* request,
                                         pb::CloseSessionResponse*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    Post([reactor, id = request->session_id()](Shared& shared) {
      reactor->Finish(ToGrpcStatus(Close(shared, id)));
    });
    return reactor;
  }
  grpc::ServerBidiReactor<pb::SessionRequest, pb::SessionResponse>* OpenSession(
      grpc::CallbackServerContext* context) override;

 private:
  // Ending a session takes it out of the container that is walked over.
  template <class Container>
  static Container Copy(const Container& container) {
    return container;
  }
  template <class Action>
  void Post(Action action) {
    shared_.loop.Post([this, action = std::move(action)] { action(shared_); });
  }
  static grpc::ServerUnaryReactor* Finished(
      grpc::CallbackServerContext* context, const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  absl::Status Explain(const pb::ExplainRequest& request,
                       pb::ExplainResponse* response);
  static absl::Status Close(Shared& shared, const std::string& id);

  Shared shared_;
};

absl::Status ControlService::Impl::Explain(const pb::ExplainRequest& request,
                                           pb::ExplainResponse* response) {
  FERRY_ASSIGN_OR_RETURN(Offer offer, FromProto(request.offer(), "offer"));
  FERRY_ASSIGN_OR_RETURN(Capabilities caller,
                         FromProto(request.caller(), "caller"));
  *response = ToProto(tensorferry::Explain(offer, caller,
                                           shared_.host->GetCapabilities(),
                                           shared_.host->GetPolicy()));
  return absl::OkStatus();
}

absl::Status ControlService::Impl::Close(Shared& shared,
                                         const std::string& id) {
  auto side = shared.by_id.find(id);
  if (side == shared.by_id.end()) {
    return absl::NotFoundError(absl::StrCat(
        "no session \"", absl::Utf8SafeCEscape(id.substr(0, 64)), "\" here"));
  }
  side->second->End(absl::CancelledError(absl::StrCat(
                        "session ", id, " was closed by CloseSession")),
                    true);
  return absl::OkStatus();
}

grpc::ServerBidiReactor<pb::SessionRequest, pb::SessionResponse>*
ControlService::Impl::OpenSession(grpc::CallbackServerContext* context) {
  auto side = std::make_shared<CalleeSide>(&shared_, context);
  {
    absl::MutexLock lock(&shared_.mu);
    ++shared_.streams;
  }
  side->Start();
  return side.get();
}

ControlService::ControlService(SessionHost* host,
                               ControlServiceOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Real();
  impl_ = std::make_unique<Impl>(host, options);
}

ControlService::~ControlService() = default;

void ControlService::RegisterOn(grpc::ServerBuilder& builder) {
  builder.RegisterService(impl_.get());
}

void ControlService::StartDrain() { impl_->StartDrain(); }

void ControlService::Shutdown(absl::Status why) {
  impl_->Shutdown(std::move(why));
}

const SessionTable& ControlService::sessions() const { return impl_->table(); }

}  // namespace tensorferry
