#include "control/control_service.h"

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "base/loop.h"
#include "base/status_macros.h"
#include "control/answers.h"
#include "control/authorizer.h"
#include "control/callee_side.h"
#include "control/grpc_status.h"
#include "control/lease.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"
#include "grpcpp/server_builder.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

// Ends before anything is read.
class RefusedStream
    : public grpc::ServerBidiReactor<pb::SessionRequest, pb::SessionResponse> {
 public:
  explicit RefusedStream(const absl::Status& why) { Finish(ToGrpcStatus(why)); }
  void OnDone() override { delete this; }
};

// Leases as they are told to callers, and what fits to them.
ControlServiceOptions Clamped(ControlServiceOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Real();
  if (options.access == nullptr) options.access = Access::Nobody();
  options.lease = std::clamp(options.lease, kShortestLease, kLongestLease);
  options.heartbeat =
      std::clamp(options.heartbeat, kShortestHeartbeat, options.lease / 2);
  options.max_sessions = std::clamp(options.max_sessions, 1, kMostSessions);
  return options;
}

bool MayAdminister(const Caller& caller, const std::string& owner) {
  return caller.grants.administer || ToString(caller.identity) == owner;
}

}  // namespace

class ControlService::State : public pb::Control::CallbackService {
 public:
  State(SessionHost* host, const ControlServiceOptions& options)
      : shared_(host, options, &loop_),
        answers_(options.answer_bytes),
        loop_(options.clock) {
    loop_.Post([this] { shared_.Sweep(); });
  }
  ~State() override {
    shared_.stopping = true;
    Post([](ServiceShared& shared) {
      shared.shutdown = absl::UnavailableError("the callee is gone");
      for (CalleeSide* side : Copy(shared.sides)) side->Cut(*shared.shutdown);
    });
    shared_.AwaitNoStreams();
  }

  void Shutdown(absl::Status why) {
    shared_.stopping = true;
    Post([why = std::move(why)](ServiceShared& shared) {
      if (!shared.shutdown) shared.shutdown = why;
      for (CalleeSide* side : Copy(shared.sides)) side->End(why, true);
    });
  }
  const SessionTable& table() const { return shared_.table; }

  // gRPC would swallow what the host throws, and the call would never end.
  grpc::ServerUnaryReactor* GetCapabilities(
      grpc::CallbackServerContext* context, const pb::GetCapabilitiesRequest*,
      pb::GetCapabilitiesResponse* response) override {
    return answers_.Give(
        CatchExceptions("the host",
                        [&] {
                          FERRY_RETURN_IF_ERROR(
                              AdmitDescribing(*context).status());
                          *response->mutable_capabilities() =
                              ToProto(shared_.host->GetCapabilities());
                          return absl::OkStatus();
                        }),
        *response);
  }
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const pb::ExplainRequest* request,
                                    pb::ExplainResponse* response) override {
    return answers_.Give(
        CatchExceptions("the host",
                        [&] { return Explain(*context, *request, response); }),
        *response);
  }
  grpc::ServerUnaryReactor* ListSessions(
      grpc::CallbackServerContext* context, const pb::ListSessionsRequest*,
      pb::ListSessionsResponse* response) override {
    return answers_.Give(
        CatchExceptions("the host", [&] { return List(*context, response); }),
        *response);
  }
  grpc::ServerUnaryReactor* CloseSession(
      grpc::CallbackServerContext* context,
      const pb::CloseSessionRequest* request,
      pb::CloseSessionResponse* response) override {
    absl::StatusOr<Caller> caller =
        CatchExceptions("the host", [&] { return AdmitToSessions(*context); });
    if (!caller.ok()) return answers_.Give(caller.status(), *response);
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    Post([reactor, id = request->session_id(),
          caller = *std::move(caller)](ServiceShared& shared) {
      reactor->Finish(ToGrpcStatus(Close(shared, id, caller)));
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
    loop_.Post([this, action = std::move(action)] { action(shared_); });
  }
  absl::StatusOr<Caller> AdmitDescribing(
      const grpc::CallbackServerContext& context) const;
  absl::StatusOr<Caller> AdmitToSessions(
      const grpc::CallbackServerContext& context) const;
  absl::Status Explain(const grpc::CallbackServerContext& context,
                       const pb::ExplainRequest& request,
                       pb::ExplainResponse* response);
  absl::Status List(const grpc::CallbackServerContext& context,
                    pb::ListSessionsResponse* response);
  static absl::Status Close(ServiceShared& shared, const std::string& id,
                            const Caller& caller);

  ServiceShared shared_;
  Answers answers_;
  Loop loop_;  // the first to go
};

absl::StatusOr<Caller> ControlService::State::AdmitDescribing(
    const grpc::CallbackServerContext& context) const {
  FERRY_ASSIGN_OR_RETURN(Caller caller, shared_.options.access->Admit(context));
  if (caller.grants.describe) return caller;
  return NotGranted(caller.identity, "ask what this peer can do",
                    "describe: true");
}

// Whoever may have sessions may see and close them.
absl::StatusOr<Caller> ControlService::State::AdmitToSessions(
    const grpc::CallbackServerContext& context) const {
  FERRY_ASSIGN_OR_RETURN(Caller caller, shared_.options.access->Admit(context));
  if (caller.grants.administer || caller.grants.sessions > 0) return caller;
  return NotGranted(caller.identity, "list or close sessions",
                    "administer: true");
}

absl::Status ControlService::State::List(
    const grpc::CallbackServerContext& context,
    pb::ListSessionsResponse* response) {
  FERRY_ASSIGN_OR_RETURN(const Caller caller, AdmitToSessions(context));
  for (SessionRecord& record : shared_.table.List()) {
    if (!MayAdminister(caller, record.identity)) continue;
    std::tie(record.bytes_sent, record.bytes_received) =
        shared_.host->BytesMoved(record.id);
    *response->add_sessions() = ToProto(record);
  }
  return absl::OkStatus();
}

absl::Status ControlService::State::Explain(
    const grpc::CallbackServerContext& context,
    const pb::ExplainRequest& request, pb::ExplainResponse* response) {
  FERRY_ASSIGN_OR_RETURN(const Caller asker, AdmitDescribing(context));
  FERRY_ASSIGN_OR_RETURN(Offer offer, FromProto(request.offer(), "offer"));
  FERRY_ASSIGN_OR_RETURN(Capabilities caller,
                         FromProto(request.caller(), "caller"));
  absl::StatusOr<Policy> policy =
      Restrict(shared_.host->GetPolicy(), asker.grants, asker.identity);
  Explanation explanation =
      tensorferry::Explain(offer, caller, shared_.host->GetCapabilities(),
                           policy.ok() ? *policy : shared_.host->GetPolicy());
  if (!policy.ok()) explanation.objections.push_back(policy.status());
  *response = ToProto(explanation);
  return absl::OkStatus();
}

absl::Status ControlService::State::Close(ServiceShared& shared,
                                          const std::string& id,
                                          const Caller& caller) {
  auto side = shared.by_id.find(id);
  // Of others' sessions not even that they are there.
  if (side == shared.by_id.end() ||
      !MayAdminister(caller, ToString(side->second->caller().identity))) {
    return NoSuchSession(id);
  }
  side->second->End(absl::CancelledError(absl::StrCat(
                        "session ", id, " was closed by CloseSession")),
                    true);
  return absl::OkStatus();
}

grpc::ServerBidiReactor<pb::SessionRequest, pb::SessionResponse>*
ControlService::State::OpenSession(grpc::CallbackServerContext* context) {
  std::shared_ptr<CalleeSide> side;
  const absl::Status begun = CatchExceptions("the host", [&] {
    FERRY_ASSIGN_OR_RETURN(const Caller caller,
                           shared_.options.access->Admit(*context));
    if (caller.grants.sessions < 1) {
      return NotGranted(caller.identity, "open sessions", "sessions: 1");
    }
    FERRY_RETURN_IF_ERROR(shared_.AddStream(caller));
    absl::Cleanup counted = [&] { shared_.RemoveStream(caller); };
    side = std::make_shared<CalleeSide>(&shared_, context, caller);
    side->Start();
    std::move(counted).Cancel();
    return absl::OkStatus();
  });
  if (!begun.ok()) return new RefusedStream(begun);
  return side.get();
}

ControlService::ControlService(SessionHost* host, ControlServiceOptions options)
    : state_(std::make_unique<State>(host, Clamped(options))) {}

ControlService::~ControlService() = default;

void ControlService::RegisterOn(grpc::ServerBuilder& builder) {
  builder.RegisterService(state_.get());
}

void ControlService::Shutdown(absl::Status why) {
  state_->Shutdown(std::move(why));
}

const SessionTable& ControlService::sessions() const { return state_->table(); }

}  // namespace tensorferry
