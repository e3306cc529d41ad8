#include "control/control_client.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/exception_status.h"
#include "base/loop.h"
#include "base/status_macros.h"
#include "control/call_registry.h"
#include "control/caller_side.h"
#include "control/channel.h"
#include "control/lease.h"
#include "control/proto_conversion.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

// ListSessions of a callee with many sessions and long plans.
constexpr int kMaxAnswerBytes = 64 << 20;

// `done`, a user's; what it throws is dropped, as nobody is left to tell.
template <class T>
absl::AnyInvocable<void(T) &&> Contained(absl::AnyInvocable<void(T) &&> done) {
  return [done = std::move(done)](T result) mutable {
    CatchExceptions("a callback", [&] {
      std::move(done)(std::move(result));
    }).IgnoreError();
  };
}

template <class Request, class Response>
struct UnaryCall {
  std::shared_ptr<ClientShared> shared;
  grpc::ClientContext context;  // holds the channel, too
  Request request;
  Response response;
  absl::AnyInvocable<void(absl::Status, const Response&) &&> done;
  CallRegistry::Id id = 0;
  std::shared_ptr<UnaryCall> self;  // while gRPC has the call
};

// `start`(stub, context, request, response, on_done) begins the call.
template <class Request, class Response, class Start>
void StartUnary(
    const std::shared_ptr<ClientShared>& shared, Request request,
    absl::Duration timeout, Start start,
    absl::AnyInvocable<void(absl::Status, const Response&) &&> done) {
  auto call = std::make_shared<UnaryCall<Request, Response>>();
  call->shared = shared;
  call->request = std::move(request);
  call->done = std::move(done);
  call->context.set_deadline(
      absl::ToChronoTime(absl::Now() + std::min(timeout, kLongestTimeout)));
  call->self = call;
  call->id = shared->calls.Add([call] { call->context.TryCancel(); });
  // gRPC's threads must not be left with a reference to the channel: the last
  // channel takes its threads with it, and they cannot await themselves.
  auto on_done = [raw = call.get()](const grpc::Status& status) {
    Scheduler* loop = raw->shared->loop;
    loop->Post([call = std::move(raw->self), status] {
      std::move(call->done)(WithAddress(status, call->shared->channel),
                            call->response);
      call->shared->calls.Remove(call->id);
    });
  };
  shared->channel.Prepare(call->context);
  start(*shared->stub->async(), &call->context, &call->request, &call->response,
        std::move(on_done));
}

// What the peer would find wrong with it, found before it is asked.
absl::Status CheckOwn(const Offer& offer, const Capabilities& caller) {
  FERRY_RETURN_IF_ERROR(FromProto(ToProto(offer), "offer").status());
  return FromProto(ToProto(caller), "caller").status();
}

}  // namespace

class ControlClient::State {
 public:
  State(PeerChannel channel, ControlClientOptions options)
      : own_loop_(options.loop == nullptr ? std::make_unique<Loop>() : nullptr),
        shared_(std::make_shared<ClientShared>()) {
    shared_->address = channel.address;
    shared_->options = options;
    shared_->options.lease =
        std::clamp(options.lease, kShortestLease, kLongestLease);
    shared_->options.heartbeat = std::clamp(
        options.heartbeat, kShortestHeartbeat, shared_->options.lease / 2);
    shared_->loop = own_loop_ != nullptr ? own_loop_.get() : options.loop;
    shared_->channel = std::move(channel);
    shared_->stub = pb::Control::NewStub(shared_->channel.channel);
  }
  ~State() { shared_->calls.CancelAndAwaitAll(); }

  const std::shared_ptr<ClientShared>& shared() const { return shared_; }

  // Fails `done` on the loop, like everything else, and before the client ends.
  template <class T>
  void Fail(absl::Status why, Done<T> done) {
    auto id = std::make_shared<CallRegistry::Id>();
    *id = shared_->calls.Add([] {});
    shared_->loop->Post([shared = shared_, id, why = std::move(why),
                         done = Contained(std::move(done))]() mutable {
      std::move(done)(std::move(why));
      shared->calls.Remove(*id);
    });
  }

 private:
  const std::unique_ptr<Loop> own_loop_;
  const std::shared_ptr<ClientShared> shared_;
};

ControlClient::ControlClient(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

ControlClient::~ControlClient() {
  if (!home_.IsThis()) (void)state_.release();  // the parent's: left alone
}

absl::StatusOr<std::unique_ptr<ControlClient>> ControlClient::Create(
    const std::string& address, ControlClientOptions options) {
  FERRY_ASSIGN_OR_RETURN(
      PeerChannel channel,
      OpenChannel(address, kMaxAnswerBytes, options.security));
  return std::unique_ptr<ControlClient>(
      new ControlClient(std::make_unique<State>(std::move(channel), options)));
}

void ControlClient::GetCapabilities(absl::Duration timeout,
                                    Done<Capabilities> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  StartUnary<pb::GetCapabilitiesRequest, pb::GetCapabilitiesResponse>(
      state_->shared(), {}, timeout,
      [](auto& stub, auto... args) { stub.GetCapabilities(args...); },
      [done = Contained(std::move(done))](
          absl::Status status,
          const pb::GetCapabilitiesResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response.capabilities(), "capabilities"));
      });
}

void ControlClient::Explain(const Offer& offer, const Capabilities& caller,
                            absl::Duration timeout, Done<Explanation> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  if (absl::Status status = CheckOwn(offer, caller); !status.ok()) {
    return state_->Fail(std::move(status), std::move(done));
  }
  pb::ExplainRequest request;
  *request.mutable_offer() = ToProto(offer);
  *request.mutable_caller() = ToProto(caller);
  StartUnary<pb::ExplainRequest, pb::ExplainResponse>(
      state_->shared(), std::move(request), timeout,
      [](auto& stub, auto... args) { stub.Explain(args...); },
      [done = Contained(std::move(done))](
          absl::Status status, const pb::ExplainResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response));
      });
}

void ControlClient::ListSessions(absl::Duration timeout,
                                 Done<std::vector<SessionRecord>> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  StartUnary<pb::ListSessionsRequest, pb::ListSessionsResponse>(
      state_->shared(), {}, timeout,
      [](auto& stub, auto... args) { stub.ListSessions(args...); },
      [done = Contained(std::move(done))](
          absl::Status status,
          const pb::ListSessionsResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response));
      });
}

void ControlClient::CloseSession(const std::string& session_id,
                                 absl::Duration timeout, DoneStatus done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  pb::CloseSessionRequest request;
  request.set_session_id(session_id);
  StartUnary<pb::CloseSessionRequest, pb::CloseSessionResponse>(
      state_->shared(), std::move(request), timeout,
      [](auto& stub, auto... args) { stub.CloseSession(args...); },
      [done = Contained(std::move(done))](
          absl::Status status, const pb::CloseSessionResponse&) mutable {
        std::move(done)(std::move(status));
      });
}

void ControlClient::OpenSession(const Offer& offer, const Capabilities& caller,
                                std::shared_ptr<ControlEvents> events,
                                absl::Duration timeout, Done<Accepted> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  if (absl::Status status = CheckOwn(offer, caller); !status.ok()) {
    return state_->Fail(std::move(status), std::move(done));
  }
  std::make_shared<CallerSide>(state_->shared(), offer, caller,
                               std::move(events), std::move(done))
      ->Start(timeout);
}

}  // namespace tensorferry
