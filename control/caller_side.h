// Internal to control/: the caller's side of a control stream.
#ifndef TENSORFERRY_CONTROL_CALLER_SIDE_H_
#define TENSORFERRY_CONTROL_CALLER_SIDE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "base/scheduler.h"
#include "control/call_registry.h"
#include "control/capabilities.h"
#include "control/channel.h"
#include "control/control_client.h"
#include "control/control_stream.h"
#include "control/offer.h"
#include "control/stream_side.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/client_callback.h"
#include "grpcpp/support/status.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {

// What every call of one client uses. Calls hold a reference, so that none of
// them outlives it; the loop outlives them all.
struct ClientShared {
  std::string address;
  ControlClientOptions options;
  Scheduler* loop = nullptr;
  PeerChannel channel;
  std::unique_ptr<control::v1::Control::Stub> stub;
  CallRegistry calls;
};

// Longer timeouts are cut: every call has a deadline.
inline constexpr absl::Duration kLongestTimeout = absl::Hours(24);

// Says of an error whose it is.
absl::Status WithAddress(const grpc::Status& status,
                         const PeerChannel& channel);

// The caller's side of one session.
class CallerSide
    : public StreamSide,
      public grpc::ClientBidiReactor<control::v1::SessionRequest,
                                     control::v1::SessionResponse> {
 public:
  CallerSide(std::shared_ptr<ClientShared> shared, const Offer& offer,
             const Capabilities& caller, std::shared_ptr<ControlEvents> events,
             Done<ControlClient::Accepted> done)
      : StreamSide(Role::kCaller, shared->loop, shared->options.heartbeat),
        shared_(std::move(shared)),
        offer_(offer),
        caller_(caller),
        events_(std::move(events)),
        done_(std::move(done)) {}

  // `timeout` bounds the negotiation.
  void Start(absl::Duration timeout);

  // gRPC's threads.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  std::shared_ptr<CallerSide> Self() {
    return std::static_pointer_cast<CallerSide>(shared_from_this());
  }

  void StartOnLoop(absl::Duration timeout);
  void OnReadsOver();
  void OnMessage(const control::v1::SessionResponse& response);
  void HandleFirst(const control::v1::SessionResponse& response);
  void Handle(const control::v1::SessionResponse& response);
  absl::Status TakeAccepted(const control::v1::Accepted& message);
  void GoodbyeCame(const control::v1::Goodbye& goodbye);
  void OnWireStatus(const grpc::Status& status);
  void CheckSilence();  // when the lease passes
  void ReleaseWire();
  void Broken(absl::string_view how) {
    End(absl::InvalidArgumentError(
            absl::StrCat("control service at ", shared_->address, ": ", how)),
        true);
  }

  void StartWriteOf(const Signal& signal) override;
  void CloseWire(const absl::Status& why) override;
  void CancelWire() override { CancelCall(); }
  // Virtual for simulations, whose calls are not gRPC's.
  virtual void MakeCall() {
    shared_->channel.Prepare(context_);
    shared_->stub->async()->OpenSession(&context_, this);
  }
  virtual void CancelCall() { context_.TryCancel(); }
  void OnEnding() override {
    loop()->CancelTimer(timeout_timer_);
    loop()->CancelTimer(silence_timer_);
  }
  void OnEnded() override;
  void OnGone() override { shared_->calls.Remove(call_); }

  const std::shared_ptr<ClientShared> shared_;
  const Offer offer_;
  const Capabilities caller_;
  CallRegistry::Id call_ = 0;
  grpc::ClientContext context_;
  control::v1::SessionRequest request_;    // gRPC's while a write is under way
  control::v1::SessionResponse response_;  // gRPC's while a read is under way
  // The loop's.
  std::shared_ptr<ControlEvents> events_;
  Done<ControlClient::Accepted> done_;  // until it has run
  bool reads_over_ = false;
  bool held_ = true;
  Scheduler::TimerId timeout_timer_ = 0, silence_timer_ = 0;
  absl::Time heard_at_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CALLER_SIDE_H_
