#include "tests/control/raw_peer.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"

namespace tensorferry {
namespace testing {

using control_proto::ToProto;

pb::SessionRequest OpenMessage(const Offer& offer, const Capabilities& caller) {
  pb::SessionRequest request;
  *request.mutable_open()->mutable_offer() = ToProto(offer);
  *request.mutable_open()->mutable_caller() = ToProto(caller);
  return request;
}

pb::SessionResponse AcceptedMessage(const Offer& offer,
                                    const Capabilities& caller,
                                    const Capabilities& callee) {
  auto plan = Negotiate(offer, caller, callee, {});
  if (!plan.ok()) std::abort();
  pb::SessionResponse response;
  pb::Accepted* accepted = response.mutable_accepted();
  *accepted->mutable_plan() = ToProto(*plan);
  accepted->set_plan_digest(Digest(*plan));
  *accepted->mutable_ticket() =
      ToProto(LaneTicket{"id", {"tcp://127.0.0.1:1"}, std::string(16, 'k')});
  return response;
}

pb::SessionRequest HeartbeatRequest() {
  pb::SessionRequest request;
  request.mutable_heartbeat();
  return request;
}

pb::SessionResponse HeartbeatResponse() {
  pb::SessionResponse response;
  response.mutable_heartbeat();
  return response;
}

std::unique_ptr<pb::Control::Stub> StubFor(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return pb::Control::NewStub(grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments));
}

RawCaller::RawCaller(const std::string& address,
                     const std::string& authorization)
    : stub_(StubFor(address)) {
  if (!authorization.empty()) {
    context_.AddMetadata("authorization", authorization);
  }
  context_.set_deadline(std::chrono::system_clock::now() +
                        std::chrono::seconds(60));
  stream_ = stub_->OpenSession(&context_);
}

RawCaller::~RawCaller() {
  if (finished_) return;
  context_.TryCancel();
  ReadToEnd();
}

bool RawCaller::Write(const pb::SessionRequest& request) {
  return stream_->Write(request);
}

bool RawCaller::Read(pb::SessionResponse* response) {
  do {
    if (!stream_->Read(response)) return false;
  } while (response->has_heartbeat());
  return true;
}

RawCaller::End RawCaller::ReadToEnd() {
  End end;
  pb::SessionResponse response;
  while (Read(&response)) {
    if (!response.has_goodbye()) continue;
    stream_->WritesDone();
    end.goodbye = response.goodbye().status().code();
    end.why = response.goodbye().status().message();
  }
  finished_ = true;
  end.status = stream_->Finish();
  return end;
}

RawCallee::RawCallee() {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) std::abort();
  address_ = absl::StrCat("127.0.0.1:", port);
}

RawCallee::~RawCallee() { server_->Shutdown(std::chrono::system_clock::now()); }

grpc::Status RawCallee::AwaitCancelled(grpc::ServerContext* context) {
  while (!context->IsCancelled()) std::this_thread::yield();
  return grpc::Status::CANCELLED;
}

grpc::Status RawCallee::OpenSession(grpc::ServerContext* context,
                                    Stream* stream) {
  pb::SessionRequest open;
  if (!stream->Read(&open) || !open.has_open()) {
    return {grpc::StatusCode::INTERNAL, "the test's caller sent no open"};
  }
  return on_open(context, stream);
}

grpc::Status RawCallee::GetCapabilities(grpc::ServerContext* context,
                                        const pb::GetCapabilitiesRequest*,
                                        pb::GetCapabilitiesResponse* response) {
  if (!capabilities) return AwaitCancelled(context);
  *response = capabilities();
  return grpc::Status::OK;
}

grpc::Status RawCallee::Explain(grpc::ServerContext* context,
                                const pb::ExplainRequest*,
                                pb::ExplainResponse* response) {
  if (!explain) return AwaitCancelled(context);
  *response = explain();
  return grpc::Status::OK;
}

grpc::Status RawCallee::ListSessions(grpc::ServerContext* context,
                                     const pb::ListSessionsRequest*,
                                     pb::ListSessionsResponse* response) {
  if (!sessions) return AwaitCancelled(context);
  *response = sessions();
  return grpc::Status::OK;
}

}  // namespace testing
}  // namespace tensorferry
