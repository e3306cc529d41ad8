#include "control/caller_side.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "control/grpc_status.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"

namespace tensorferry {

namespace pb = ::tensorferry::control::v1;
using control_proto::FromProto;
using control_proto::ToProto;

absl::Status WithAddress(const grpc::Status& status,
                         const PeerChannel& channel) {
  absl::Status converted = channel.ToStatus(status);
  if (converted.ok()) return converted;
  return absl::Status(converted.code(),
                      absl::StrCat("control service at ", channel.address, ": ",
                                   converted.message()));
}

void CallerSide::Start(absl::Duration timeout) {
  Begin();
  call_ = shared_->calls.Add([self = Self()] {
    self->loop()->Post([self] {
      self->Cut(absl::CancelledError("the control client was destroyed"));
    });
  });
  loop()->Post([self = Self(), timeout] { self->StartOnLoop(timeout); });
}

void CallerSide::OnReadDone(bool ok) {
  if (!ok) return loop()->Post([self = Self()] { self->OnReadsOver(); });
  loop()->Post([self = Self(), response = std::move(response_)] {
    self->OnMessage(response);
  });
}

void CallerSide::OnWriteDone(bool ok) {
  loop()->Post([self = Self(), ok] {
    self->WriteDone(ok);
    self->ReleaseWire();
  });
}

void CallerSide::OnDone(const grpc::Status& status) {
  loop()->Post([self = Self(), status] { self->OnWireStatus(status); });
}

void CallerSide::StartOnLoop(absl::Duration timeout) {
  timeout = std::min(timeout, kLongestTimeout);
  timeout_timer_ =
      loop()->RunAt(loop()->clock()->Now() + timeout, [self = Self(), timeout] {
        self->Cut(absl::DeadlineExceededError(
            absl::StrCat("control service at ", self->shared_->address,
                         " did not answer the offer within ",
                         absl::FormatDuration(timeout))));
      });
  MakeCall();
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
  CheckSilence();
  auto done = std::move(done_);
  done_ = nullptr;
  RunCallback([&] { std::move(done)(std::move(accepted)); });
  return absl::OkStatus();
}

void CallerSide::Handle(const pb::SessionResponse& response) {
  switch (response.message_case()) {
    case pb::SessionResponse::kHeartbeat:
      return;
    case pb::SessionResponse::kOpened:
      return RunCallback([this] { events_->OnOpened(); });
    case pb::SessionResponse::kDrain:
      return RunCallback([this] { events_->OnDrain(); });
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
    End(WithAddress(status, shared_->channel), false);
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
    RunCallback([&] { std::move(done)(why()); });
  } else {
    RunCallback([this] { events_->OnStreamEnded(why()); });
  }
  events_ = nullptr;
}

void CallerSide::CheckSilence() {
  if (ending()) return;
  const absl::Duration lease = shared_->options.lease;
  const absl::Time over = heard_at_ + lease;
  if (loop()->clock()->Now() < over) {
    // Behind what has come already, if the loop was busy.
    silence_timer_ = loop()->RunAt(over, [self = Self()] {
      self->loop()->Post([self] { self->CheckSilence(); });
    });
    return;
  }
  EndUnheard(absl::UnavailableError(
      absl::StrCat("control service at ", shared_->address, " was silent for ",
                   absl::FormatDuration(lease))));
}

}  // namespace tensorferry
