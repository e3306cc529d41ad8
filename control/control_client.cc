#include "control/control_client.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/loop.h"
#include "base/status_macros.h"
#include "control/address.h"
#include "control/control.grpc.pb.h"
#include "control/grpc_status.h"
#include "control/proto_conversion.h"
#include "control/stream_side.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

constexpr absl::Duration kLongestTimeout = absl::Hours(24);
// ListSessions of a callee with many sessions and long plans.
constexpr int kMaxAnswerBytes = 64 << 20;

// What is under way, so that the end of the client can cancel and await it.
class CallRegistry {
 public:
  using Id = uint64_t;

  Id Add(std::function<void()> cancel) {
    absl::MutexLock lock(&mu_);
    calls_.emplace(++last_, std::move(cancel));
    return last_;
  }
  // The last that a call does with the client.
  void Remove(Id id) {
    std::function<void()> dropped;  // destroyed after the lock
    absl::MutexLock lock(&mu_);
    auto call = calls_.find(id);
    dropped = std::move(call->second);
    calls_.erase(call);
  }
  void CancelAndAwaitAll() {
    std::map<Id, std::function<void()>> calls;
    {
      absl::MutexLock lock(&mu_);
      calls = calls_;
    }
    for (auto& [id, cancel] : calls) cancel();
    calls.clear();
    absl::MutexLock lock(&mu_);
    auto none = [this]()
                    ABSL_NO_THREAD_SAFETY_ANALYSIS { return calls_.empty(); };
    mu_.Await(absl::Condition(&none));
  }

 private:
  absl::Mutex mu_;
  Id last_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Id, std::function<void()>> calls_ ABSL_GUARDED_BY(mu_);
};

// What every call of one client uses. Calls hold a reference, so that none of
// them outlives it; the loop outlives them all.
struct Shared {
  std::string address;
  ControlClientOptions options;
  Loop* loop;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::Control::Stub> stub;
  CallRegistry calls;
};

template <class Request, class Response>
struct UnaryCall {
  std::shared_ptr<Shared> shared;
  grpc::ClientContext context;  // holds the channel, too
  Request request;
  Response response;
  absl::AnyInvocable<void(absl::Status, const Response&) &&> done;
  CallRegistry::Id id = 0;
  std::shared_ptr<UnaryCall> self;  // while gRPC has the call
};

absl::Status WithAddress(const grpc::Status& status,
                         const std::string& address) {
  absl::Status converted = FromGrpcStatus(status);
  if (converted.ok()) return converted;
  return absl::Status(
      converted.code(),
      absl::StrCat("control service at ", address, ": ", converted.message()));
}

// `start`(stub, context, request, response, on_done) begins the call.
template <class Request, class Response, class Start>
void StartUnary(
    const std::shared_ptr<Shared>& shared, Request request,
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
    Loop* loop = raw->shared->loop;
    loop->Post([call = std::move(raw->self), status] {
      std::move(call->done)(WithAddress(status, call->shared->address),
                            call->response);
      call->shared->calls.Remove(call->id);
    });
  };
  start(*shared->stub->async(), &call->context, &call->request, &call->response,
        std::move(on_done));
}

// The caller's side of one session.
class CallerSide
    : public StreamSide,
      public grpc::ClientBidiReactor<pb::SessionRequest, pb::SessionResponse> {
 public:
  CallerSide(std::shared_ptr<Shared> shared, const Offer& offer,
             const Capabilities& caller, std::shared_ptr<ControlEvents> events,
             Done<ControlClient::Accepted> done)
      : StreamSide(Role::kCaller, shared->loop, shared->options.heartbeat),
        shared_(std::move(shared)),
        offer_(offer),
        caller_(caller),
        events_(std::move(events)),
        done_(std::move(done)) {}

  void Start(absl::Duration timeout) {
    Begin();
    call_ = shared_->calls.Add([self = Self()] {
      self->loop()->Post([self] {
        self->Cut(absl::CancelledError("the control client was destroyed"));
      });
    });
    loop()->Post([self = Self(), timeout] { self->StartOnLoop(timeout); });
  }

  // gRPC's threads.
  void OnReadDone(bool ok) override {
    if (!ok) return loop()->Post([self = Self()] { self->OnReadsOver(); });
    loop()->Post([self = Self(), response = std::move(response_)] {
      self->OnMessage(response);
    });
  }
  void OnWriteDone(bool ok) override {
    loop()->Post([self = Self(), ok] {
      self->WriteDone(ok);
      self->ReleaseWire();
    });
  }
  void OnDone(const grpc::Status& status) override {
    loop()->Post([self = Self(), status] { self->OnWireStatus(status); });
  }

 private:
  std::shared_ptr<CallerSide> Self() {
    return std::static_pointer_cast<CallerSide>(shared_from_this());
  }

  void StartOnLoop(absl::Duration timeout);
  void OnReadsOver();
  void OnMessage(const pb::SessionResponse& response);
  void HandleFirst(const pb::SessionResponse& response);
  void Handle(const pb::SessionResponse& response);
  absl::Status TakeAccepted(const pb::Accepted& message);
  void GoodbyeCame(const pb::Goodbye& goodbye);
  void OnWireStatus(const grpc::Status& status);
  void ReleaseWire();
  void Broken(absl::string_view how) {
    End(absl::InvalidArgumentError(
            absl::StrCat("control service at ", shared_->address, ": ", how)),
        true);
  }

  void StartWriteOf(const Signal& signal) override;
  void CloseWire(const absl::Status& why) override;
  void CancelWire() override { context_.TryCancel(); }
  void OnEnding() override { loop()->CancelTimer(timeout_timer_); }
  void OnEnded() override;
  void OnGone() override { shared_->calls.Remove(call_); }
  void OnTick() override;

  const std::shared_ptr<Shared> shared_;
  const Offer offer_;
  const Capabilities caller_;
  CallRegistry::Id call_ = 0;
  grpc::ClientContext context_;
  pb::SessionRequest request_;    // gRPC's while a write is under way
  pb::SessionResponse response_;  // gRPC's while a read is under way
  // The loop's.
  std::shared_ptr<ControlEvents> events_;
  Done<ControlClient::Accepted> done_;  // until it has run
  bool reads_over_ = false;
  bool held_ = true;
  Loop::TimerId timeout_timer_ = 0;
  absl::Time heard_at_;
};

void CallerSide::StartOnLoop(absl::Duration timeout) {
  timeout = std::min(timeout, kLongestTimeout);
  timeout_timer_ =
      loop()->RunAt(loop()->clock()->Now() + timeout, [self = Self(), timeout] {
        self->Cut(absl::DeadlineExceededError(
            absl::StrCat("control service at ", self->shared_->address,
                         " did not answer the offer within ",
                         absl::FormatDuration(timeout))));
      });
  shared_->stub->async()->OpenSession(&context_, this);
  AddHold();  // operations start on the loop, not in gRPC's reactions
  StartRead(&response_);
  Send({Signal::Kind::kOpen, {}});
  StartCall();
}

void CallerSide::OnMessage(const pb::SessionResponse& response) {
  heard_at_ = loop()->clock()->Now();
  if (!ending() && CountMessage()) {
    if (done_) {
      HandleFirst(response);
    } else {
      Handle(response);
    }
  }
  // To the end, as gRPC reports the end only after the last message.
  StartRead(&response_);
}

void CallerSide::HandleFirst(const pb::SessionResponse& response) {
  if (response.has_goodbye()) return GoodbyeCame(response.goodbye());
  if (!response.has_accepted()) {
    return Broken("the first answer must be `accepted` or `goodbye`");
  }
  absl::Status taken = TakeAccepted(response.accepted());
  if (!taken.ok()) End(taken, true);
}

absl::Status CallerSide::TakeAccepted(const pb::Accepted& message) {
  ControlClient::Accepted accepted;
  FERRY_ASSIGN_OR_RETURN(accepted.plan,
                         FromProto(message.plan(), "accepted.plan"));
  if (Digest(accepted.plan) != message.plan_digest()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "accepted.plan_digest: ", Digest(accepted.plan),
        " for the plan that came with it, but the callee says otherwise"));
  }
  FERRY_RETURN_IF_ERROR(CheckPlan(accepted.plan, offer_, caller_));
  FERRY_ASSIGN_OR_RETURN(accepted.ticket,
                         FromProto(message.ticket(), "accepted.ticket"));
  accepted.stream = handle();
  loop()->CancelTimer(timeout_timer_);
  GoLive(control_proto::LeaseOf(message.lease_ms()));
  auto done = std::move(done_);
  done_ = nullptr;
  std::move(done)(std::move(accepted));
  return absl::OkStatus();
}

void CallerSide::Handle(const pb::SessionResponse& response) {
  switch (response.message_case()) {
    case pb::SessionResponse::kHeartbeat:
      return;
    case pb::SessionResponse::kOpened:
      return events_->OnOpened();
    case pb::SessionResponse::kDrain:
      return events_->OnDrain();
    case pb::SessionResponse::kGoodbye:
      return GoodbyeCame(response.goodbye());
    case pb::SessionResponse::kAccepted:
      return Broken("a second `accepted`: a stream carries one session");
    case pb::SessionResponse::MESSAGE_NOT_SET:
      return Broken("an empty message on the control stream");
  }
}

void CallerSide::GoodbyeCame(const pb::Goodbye& goodbye) {
  absl::Status said;
  absl::Status valid = FromProto(goodbye.status(), "goodbye.status", &said);
  if (!valid.ok()) return End(valid, true);
  if (done_ && said.ok()) {
    return Broken("goodbye without an error in place of an answer");
  }
  End(said, false);
}

void CallerSide::OnReadsOver() {
  reads_over_ = true;
  WireBroken();
  ReleaseWire();
}

// Once nothing will be started any more, gRPC may report the end.
void CallerSide::ReleaseWire() {
  if (!held_ || !reads_over_ || writing()) return;
  held_ = false;
  RemoveHold();
}

void CallerSide::OnWireStatus(const grpc::Status& status) {
  if (status.ok()) {
    End(absl::UnavailableError(
            absl::StrCat("control service at ", shared_->address,
                         " closed the control stream without a goodbye")),
        false);
  } else if (done_) {
    End(WithAddress(status, shared_->address), false);
  } else {
    End(absl::UnavailableError(
            absl::StrCat("control stream to ", shared_->address,
                         " broke: ", status.error_message())),
        false);
  }
  WireDone();
}

void CallerSide::StartWriteOf(const Signal& signal) {
  request_.Clear();
  switch (signal.kind) {
    case Signal::Kind::kOpen: {
      pb::Open* open = request_.mutable_open();
      *open->mutable_offer() = ToProto(offer_);
      *open->mutable_caller() = ToProto(caller_);
      open->set_lease_ms(control_proto::LeaseMs(shared_->options.lease));
      break;
    }
    case Signal::Kind::kHeartbeat:
      request_.mutable_heartbeat();
      break;
    case Signal::Kind::kDrain:
      request_.mutable_drain();
      break;
    case Signal::Kind::kGoodbye:
      *request_.mutable_goodbye()->mutable_status() = ToProto(signal.status);
      break;
    case Signal::Kind::kAccepted:
    case Signal::Kind::kOpened:
      break;  // the callee's
  }
  StartWrite(&request_);
}

void CallerSide::CloseWire(const absl::Status&) {
  if (!reads_over_) StartWritesDone();
}

void CallerSide::OnEnded() {
  if (done_) {
    auto done = std::move(done_);
    done_ = nullptr;
    std::move(done)(TakeWhy());
  } else {
    events_->OnEnd(TakeWhy());
  }
  events_ = nullptr;
}

void CallerSide::OnTick() {
  absl::Duration lease = shared_->options.lease;
  if (loop()->clock()->Now() < heard_at_ + lease) return;
  End(absl::UnavailableError(absl::StrCat("control service at ",
                                          shared_->address, " was silent for ",
                                          absl::FormatDuration(lease))),
      true);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // A proxy of the environment is for the web, not for peers.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Otherwise a peer that was away shortly stays unavailable to new clients
  // for as long as older ones back off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

// What the peer would find wrong with it, found before it is asked.
absl::Status CheckOwn(const Offer& offer, const Capabilities& caller) {
  FERRY_RETURN_IF_ERROR(FromProto(ToProto(offer), "offer").status());
  return FromProto(ToProto(caller), "caller").status();
}

}  // namespace

class ControlClient::Impl {
 public:
  Impl(const std::string& address, ControlClientOptions options)
      : own_loop_(options.loop == nullptr ? std::make_unique<Loop>() : nullptr),
        shared_(std::make_shared<Shared>()) {
    shared_->address = address;
    shared_->options = options;
    shared_->loop = own_loop_ != nullptr ? own_loop_.get() : options.loop;
    shared_->channel = MakeChannel(address);
    shared_->stub = pb::Control::NewStub(shared_->channel);
  }
  ~Impl() { shared_->calls.CancelAndAwaitAll(); }

  const std::shared_ptr<Shared>& shared() const { return shared_; }

  // Fails `done` on the loop, like everything else, and before the client ends.
  template <class T>
  void Fail(absl::Status why, Done<T> done) {
    auto id = std::make_shared<CallRegistry::Id>();
    *id = shared_->calls.Add([] {});
    shared_->loop->Post([shared = shared_, id, why = std::move(why),
                         done = std::move(done)]() mutable {
      std::move(done)(std::move(why));
      shared->calls.Remove(*id);
    });
  }

 private:
  const std::unique_ptr<Loop> own_loop_;
  const std::shared_ptr<Shared> shared_;
};

ControlClient::ControlClient(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

ControlClient::~ControlClient() = default;

absl::StatusOr<std::unique_ptr<ControlClient>> ControlClient::Create(
    const std::string& address, ControlClientOptions options) {
  FERRY_RETURN_IF_ERROR(ValidateControlAddress(address));
  return std::unique_ptr<ControlClient>(
      new ControlClient(std::make_unique<Impl>(address, options)));
}

void ControlClient::GetCapabilities(absl::Duration timeout,
                                    Done<Capabilities> done) {
  StartUnary<pb::GetCapabilitiesRequest, pb::GetCapabilitiesResponse>(
      impl_->shared(), {}, timeout,
      [](auto& stub, auto... args) { stub.GetCapabilities(args...); },
      [done = std::move(done)](
          absl::Status status,
          const pb::GetCapabilitiesResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response.capabilities(), "capabilities"));
      });
}

void ControlClient::Explain(const Offer& offer, const Capabilities& caller,
                            absl::Duration timeout, Done<Explanation> done) {
  if (absl::Status status = CheckOwn(offer, caller); !status.ok()) {
    return impl_->Fail(std::move(status), std::move(done));
  }
  pb::ExplainRequest request;
  *request.mutable_offer() = ToProto(offer);
  *request.mutable_caller() = ToProto(caller);
  StartUnary<pb::ExplainRequest, pb::ExplainResponse>(
      impl_->shared(), std::move(request), timeout,
      [](auto& stub, auto... args) { stub.Explain(args...); },
      [done = std::move(done)](absl::Status status,
                               const pb::ExplainResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response));
      });
}

void ControlClient::ListSessions(absl::Duration timeout,
                                 Done<std::vector<SessionRecord>> done) {
  StartUnary<pb::ListSessionsRequest, pb::ListSessionsResponse>(
      impl_->shared(), {}, timeout,
      [](auto& stub, auto... args) { stub.ListSessions(args...); },
      [done = std::move(done)](
          absl::Status status,
          const pb::ListSessionsResponse& response) mutable {
        if (!status.ok()) return std::move(done)(std::move(status));
        std::move(done)(FromProto(response));
      });
}

void ControlClient::CloseSession(const std::string& session_id,
                                 absl::Duration timeout, DoneStatus done) {
  pb::CloseSessionRequest request;
  request.set_session_id(session_id);
  StartUnary<pb::CloseSessionRequest, pb::CloseSessionResponse>(
      impl_->shared(), std::move(request), timeout,
      [](auto& stub, auto... args) { stub.CloseSession(args...); },
      [done = std::move(done)](absl::Status status,
                               const pb::CloseSessionResponse&) mutable {
        std::move(done)(std::move(status));
      });
}

void ControlClient::OpenSession(const Offer& offer, const Capabilities& caller,
                                std::shared_ptr<ControlEvents> events,
                                absl::Duration timeout, Done<Accepted> done) {
  if (absl::Status status = CheckOwn(offer, caller); !status.ok()) {
    return impl_->Fail(std::move(status), std::move(done));
  }
  std::make_shared<CallerSide>(impl_->shared(), offer, caller,
                               std::move(events), std::move(done))
      ->Start(timeout);
}

}  // namespace tensorferry
