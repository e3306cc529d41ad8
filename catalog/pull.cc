#include "catalog/pull.h"

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "catalog/chain.h"
#include "catalog/payload.h"
#include "catalog/replies.h"
#include "catalog/wire_types.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

absl::StatusOr<Pulled> ReadReply(Received received, const PullOptions& asked) {
  FERRY_ASSIGN_OR_RETURN(const pb::PullReply reply,
                         ParsePullReply(received.message.payload));
  Pulled pulled;
  FERRY_ASSIGN_OR_RETURN(pulled.contents,
                         ReadPulled(reply, std::move(received.message),
                                    asked.bundle, asked.names));
  for (const pb::PulledBundle& bundle : reply.bundles()) {
    pulled.bundles.push_back({bundle.name(), bundle.version()});
  }
  pulled.receipt = std::move(received.receipt);
  return pulled;
}

class PullOperation : public std::enable_shared_from_this<PullOperation> {
 public:
  PullOperation(std::shared_ptr<Session> session, PullOptions options,
                Done<Pulled> done)
      : session_(std::move(session)),
        options_(std::move(options)),
        deadline_(Clock::Real()->Now() + options_.timeout),
        done_(std::move(done)) {}

  void Start() { options_.progress ? AskSize() : Fetch(); }
  void Cancel() { chain_.Cancel(); }

 private:
  using Step = void (PullOperation::*)(Received);

  // Sends the request; `then` gets the reply, `done_` what went wrong.
  void Ask(bool without_tensors, Destination into, Step then) {
    pb::PullRequest request;
    request.set_bundle(options_.bundle);
    request.set_names(options_.names);
    request.set_without_tensors(without_tensors);
    const absl::Duration left = deadline_ - Clock::Real()->Now();
    request.set_timeout_ms(absl::ToInt64Milliseconds(left));
    TensorMessage message;
    message.type = kPullType;
    message.payload = ToPayload(request);
    CallOptions call;
    call.timeout = left;
    call.into = std::move(into);
    call.streams = options_.streams;
    // Finish may run, and let go of the session, before Call returns.
    const std::shared_ptr<Session> session = session_;
    chain_.Run([&] {
      return session->Call(
          std::move(message), std::move(call),
          [self = shared_from_this(), then](absl::StatusOr<Received> received) {
            if (!received.ok()) return self->Finish(received.status());
            ((*self).*then)(*std::move(received));
          });
    });
  }

  void AskSize() { Ask(true, {}, &PullOperation::OnSize); }

  void OnSize(Received received) {
    const absl::StatusOr<pb::PullReply> reply =
        ParsePullReply(received.message.payload);
    if (!reply.ok()) return Finish(reply.status());
    total_ = reply->nbytes();
    const absl::Status watched = CatchExceptions("watching a pull", [this] {
      watch_.emplace(session_, ProgressWatch::Direction::kReceived, total_,
                     options_.progress);
    });
    if (!watched.ok()) return Finish(watched);
    Fetch();
  }

  void Fetch() {
    Ask(false, std::move(options_.into), &PullOperation::OnTensors);
  }

  void OnTensors(Received received) {
    Finish(CatchExceptions("reading the answer to a pull", [&] {
      return ReadReply(std::move(received), options_);
    }));
  }

  void Finish(absl::StatusOr<Pulled> pulled) {
    watch_.reset();
    if (pulled.ok() && options_.progress) {
      TellProgress(options_.progress, {total_, total_});
    }
    session_.reset();
    std::move(done_)(std::move(pulled));
  }

  std::shared_ptr<Session> session_;
  PullOptions options_;
  const absl::Time deadline_;
  Done<Pulled> done_;
  Chain chain_;
  uint64_t total_ = 0;
  std::optional<ProgressWatch> watch_;
};

}  // namespace

Operation Pull(std::shared_ptr<Session> session, PullOptions options,
               Done<Pulled> done) {
  if (options.names.empty()) options.names = "*";
  auto operation = std::make_shared<PullOperation>(
      std::move(session), std::move(options), std::move(done));
  operation->Start();
  return Operation([weak = std::weak_ptr<PullOperation>(operation)] {
    if (auto alive = weak.lock()) alive->Cancel();
  });
}

}  // namespace tensorferry
