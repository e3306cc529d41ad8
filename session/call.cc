#include "session/call.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {
namespace {

class PendingCall : public std::enable_shared_from_this<PendingCall> {
 public:
  explicit PendingCall(Done<Received> done) : done_(std::move(done)) {}

  void Start(Link& link, uint64_t call, TensorMessage request,
             CallOptions options) {
    auto self = shared_from_this();
    // The reply's place comes first: it must be there when the reply arrives.
    Operation receive = link.Receive({.timeout = options.timeout,
                                      .filter = {.reply_to = call},
                                      .into = std::move(options.into),
                                      .ready_on = options.ready_on,
                                      .streams = options.streams,
                                      .leases = options.leases,
                                      .done_is_quick = options.done_is_quick},
                                     [self](absl::StatusOr<Received> reply) {
                                       self->Replied(std::move(reply));
                                     });
    // Refused: nothing is sent.
    if (FailedAlready()) return Sent(absl::CancelledError());
    Operation send = link.Send(
        std::move(request), {.kind = Envelope::Kind::kRequest, .call = call},
        {.timeout = options.timeout,
         .ready_on = std::move(options.ready_on),
         .streams = std::move(options.streams),
         .lend = std::move(options.lend),
         .done_is_quick = options.done_is_quick},
        [self](absl::StatusOr<Receipt> sent) { self->Sent(sent.status()); });
    bool failed;
    {
      absl::MutexLock lock(&mu_);
      send_ = send;
      receive_ = receive;
      failed = failed_;
    }
    if (failed) Cancel();  // one half failed before the other was stored
  }

  void Cancel() {
    Operation send, receive;
    {
      absl::MutexLock lock(&mu_);
      send = send_;
      receive = receive_;
    }
    send.Cancel();
    receive.Cancel();
  }

 private:
  bool FailedAlready() {
    absl::MutexLock lock(&mu_);
    return failed_;
  }

  void Sent(absl::Status status) {
    const bool failed = !status.ok();
    {
      absl::MutexLock lock(&mu_);
      sent_ = std::move(status);
      failed_ |= failed;
    }
    if (failed) Cancel();
    FinishIfBothEnded();
  }

  void Replied(absl::StatusOr<Received> reply) {
    const bool failed = !reply.ok();
    {
      absl::MutexLock lock(&mu_);
      reply_ = std::move(reply);
      failed_ |= failed;
    }
    if (failed) Cancel();
    FinishIfBothEnded();
  }

  void FinishIfBothEnded() {
    Done<Received> done;
    absl::StatusOr<Received> result;
    {
      absl::MutexLock lock(&mu_);
      if (!sent_.has_value() || !reply_.has_value() || !done_) return;
      done = std::move(done_);
      result = ResultLocked();
    }
    std::move(done)(std::move(result));
  }

  absl::StatusOr<Received> ResultLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reply_->ok()) {
      if (!(*reply_)->envelope.reply_error.ok()) {
        return (*reply_)->envelope.reply_error;
      }
      return *std::move(reply_);
    }
    // Whichever half failed by itself says why; the other was cancelled.
    const bool reply_was_cancelled = absl::IsCancelled(reply_->status());
    if (!sent_->ok() && reply_was_cancelled) return *sent_;
    return reply_->status();
  }

  absl::Mutex mu_;
  Done<Received> done_ ABSL_GUARDED_BY(mu_);
  Operation send_ ABSL_GUARDED_BY(mu_), receive_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> sent_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::StatusOr<Received>> reply_ ABSL_GUARDED_BY(mu_);
  bool failed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

Operation StartCall(Link& link, uint64_t call, TensorMessage request,
                    CallOptions options, Done<Received> done) {
  auto pending = std::make_shared<PendingCall>(std::move(done));
  pending->Start(link, call, std::move(request), std::move(options));
  return Operation([weak = std::weak_ptr<PendingCall>(pending)] {
    if (auto call = weak.lock()) call->Cancel();
  });
}

}  // namespace tensorferry
