#include "catalog/push.h"

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "catalog/bundle.h"
#include "catalog/chain.h"
#include "catalog/payload.h"
#include "catalog/replies.h"
#include "catalog/wire_types.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

absl::StatusOr<Pushed> ReadReply(const std::string& payload) {
  FERRY_ASSIGN_OR_RETURN(const pb::PushReply reply, ParsePushReply(payload));
  Pushed pushed;
  pushed.version = reply.version();
  pushed.receipt.bytes = reply.nbytes();
  pushed.receipt.bytes_through_host = reply.nbytes_through_host();
  pushed.receipt.digest = reply.digest();
  for (const pb::PathUse& use : reply.paths()) {
    pushed.receipt.paths.push_back(
        {use.path(), use.nbytes(), absl::OkStatus()});
  }
  return pushed;
}

class PushOperation : public std::enable_shared_from_this<PushOperation> {
 public:
  PushOperation(std::shared_ptr<Session> session, NamedTensors contents,
                PushOptions options, Done<Pushed> done)
      : session_(std::move(session)),
        contents_(std::move(contents)),
        options_(std::move(options)),
        total_(ByteSize(contents_)),
        started_(Clock::Real()->Now()),
        done_(std::move(done)) {}

  void Cancel() { chain_.Cancel(); }

  // Asks first: a peer that takes no pushes need not be sent a model to say so.
  void Start() {
    Call(kPushOfferType, TensorMessage(), &PushOperation::OnAccepted);
  }

 private:
  using Step = void (PushOperation::*)(Received);

  void Call(uint32_t type, TensorMessage message, Step then) {
    const absl::Duration left =
        started_ + options_.timeout - Clock::Real()->Now();
    pb::PushRequest request;
    request.set_bundle(options_.bundle);
    request.set_timeout_ms(absl::ToInt64Milliseconds(left));
    request.set_nbytes(total_);
    request.set_tensors(static_cast<uint32_t>(contents_.tensors.size()));
    if (type == kPushType) {
      request.mutable_metadata()->insert(contents_.metadata.begin(),
                                         contents_.metadata.end());
      request.set_file_header(contents_.file_header);
    }
    message.type = type;
    message.payload = ToPayload(request);
    CallOptions call;
    call.timeout = left;
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

  void OnAccepted(Received) {
    // The last moment: the answer may have taken its time.
    if (absl::Status changed = CheckUnchanged(contents_); !changed.ok()) {
      return Finish(std::move(changed));
    }
    TensorMessage message;
    const absl::Status ready = CatchExceptions("a push", [&] {
      if (options_.progress) {
        watch_.emplace(session_, ProgressWatch::Direction::kSent, total_,
                       options_.progress);
      }
      message.names = contents_.names;
      message.tensors = contents_.tensors;
    });
    if (!ready.ok()) return Finish(ready);
    Call(kPushType, std::move(message), &PushOperation::OnPublished);
  }

  void OnPublished(Received received) {
    Finish(CatchExceptions("reading the answer to a push", [&] {
      return ReadReply(received.message.payload);
    }));
  }

  void Finish(absl::StatusOr<Pushed> pushed) {
    watch_.reset();
    if (pushed.ok()) {
      pushed->receipt.time = Clock::Real()->Now() - started_;
      pushed->receipt.tensors = static_cast<int>(contents_.tensors.size());
      if (options_.progress) TellProgress(options_.progress, {total_, total_});
    }
    session_.reset();
    std::move(done_)(std::move(pushed));
  }

  std::shared_ptr<Session> session_;
  const NamedTensors contents_;
  const PushOptions options_;
  const uint64_t total_;
  const absl::Time started_;
  Done<Pushed> done_;
  Chain chain_;
  std::optional<ProgressWatch> watch_;
};

}  // namespace

Operation Push(std::shared_ptr<Session> session, NamedTensors contents,
               PushOptions options, Done<Pushed> done) {
  absl::Status bad = CheckBundleName(options.bundle);
  if (bad.ok()) bad = CheckNamed(contents);
  if (!bad.ok()) {
    std::move(done)(std::move(bad));
    return Operation();
  }
  auto operation =
      std::make_shared<PushOperation>(std::move(session), std::move(contents),
                                      std::move(options), std::move(done));
  operation->Start();
  return Operation([weak = std::weak_ptr<PushOperation>(operation)] {
    if (auto alive = weak.lock()) alive->Cancel();
  });
}

}  // namespace tensorferry
