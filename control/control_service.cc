#include "control/control_service.h"

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "control/callee_side.h"
#include "control/control.grpc.pb.h"
#include "control/grpc_status.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"
#include "grpcpp/server_builder.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

}  // namespace

class ControlService::Impl : public pb::Control::CallbackService {
 public:
  Impl(SessionHost* host, const ControlServiceOptions& options)
      : shared_(host, options) {
    shared_.loop.Post([this] { shared_.Sweep(); });
  }
  ~Impl() override {
    shared_.draining = true;
    Post([](ServiceShared& shared) {
      shared.shutdown = absl::UnavailableError("the callee is gone");
      for (CalleeSide* side : Copy(shared.sides)) side->Cut(*shared.shutdown);
    });
    shared_.AwaitNoStreams();
  }

  void StartDrain() {
    shared_.draining = true;
    Post([](ServiceShared& shared) {
      for (const auto& [id, side] : Copy(shared.by_id)) {
        side->Send({Signal::Kind::kDrain, {}});
      }
    });
  }
  void Shutdown(absl::Status why) {
    shared_.draining = true;
    Post([why = std::move(why)](ServiceShared& shared) {
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
    Post([reactor, id = request->session_id()](ServiceShared& shared) {
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
  static absl::Status Close(ServiceShared& shared, const std::string& id);

  ServiceShared shared_;
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

absl::Status ControlService::Impl::Close(ServiceShared& shared,
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
