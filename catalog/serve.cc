#include "catalog/serve.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "base/user_code.h"
#include "catalog/catalog_service.h"
#include "catalog/payload.h"
#include "catalog/select.h"
#include "catalog/wire_types.h"
#include "control/authorizer.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

// However long the asker says that it will wait.
constexpr int64_t kLongestAnswerMs = 24 * 60 * 60 * 1000;

SendOptions SendOptionsWithTimeout(int64_t timeout_ms) {
  return {.timeout = absl::Milliseconds(
              std::clamp<int64_t>(timeout_ms, 1, kLongestAnswerMs)),
          .streams = {}};
}

TensorMessage Message(uint32_t type, const google::protobuf::Message& payload) {
  TensorMessage message;
  message.type = type;
  message.payload = ToPayload(payload);
  return message;
}

pb::PushReply ReplyTo(const Receipt& brought, uint64_t version) {
  pb::PushReply reply;
  reply.set_version(version);
  reply.set_nbytes(brought.bytes);
  reply.set_nbytes_through_host(brought.bytes_through_host);
  reply.set_digest(brought.digest);
  for (const PathUse& use : brought.paths) {
    pb::PathUse* path = reply.add_paths();
    path->set_path(use.path);
    path->set_nbytes(use.bytes);
  }
  return reply;
}

std::string Quoted(const std::string& name) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(name), "\"");
}

std::string IdentityOf(const Session& session) {
  const Identity& identity = session.remote_identity();
  return identity.principals.empty() ? "" : ToString(identity);
}

// Whether the other side of `session` may push tensors of these names.
absl::Status CheckMayPush(const Session& session, const std::string& bundle,
                          const std::vector<std::string>& names = {}) {
  FERRY_RETURN_IF_ERROR(CheckBundleName(bundle));
  const std::vector<BundleGrant> granted = session.remote_grants().push;
  const std::string grant =
      absl::StrCat("push { bundle: ", Quoted(bundle), " }");
  if (!PermitsBundle(granted, bundle)) {
    return NotGranted(session.remote_identity(),
                      absl::StrCat("push bundle ", Quoted(bundle)), grant);
  }
  for (const std::string& name : names) {
    if (Permits(granted, bundle, name)) continue;
    return NotGranted(session.remote_identity(),
                      absl::StrCat("push tensor ", Quoted(name), " of bundle ",
                                   Quoted(bundle)),
                      grant);
  }
  return absl::OkStatus();
}

}  // namespace

// Handlers run on executors of many peers, so whatever they do ends before the
// server does: `busy_` counts them.
class CatalogServer::State : public std::enable_shared_from_this<State> {
 public:
  State(Catalog* catalog, CatalogServerOptions options)
      : catalog_(catalog), options_(std::move(options)), service_(catalog) {}

  CatalogService& service() { return service_; }
  absl::Status Serve(std::shared_ptr<Session> session);
  void Stop();

 private:
  using HandlerFn = void (State::*)(Session&, Received,
                                    const std::weak_ptr<Session>&);
  Session::Handler Bind(HandlerFn handler, std::weak_ptr<Session> session);
  bool Enter();
  void Leave();
  void Forget(Session* session);

  void OnPull(Session& session, Received request,
              const std::weak_ptr<Session>& handle);
  void OnPushOffer(Session& session, Received request,
                   const std::weak_ptr<Session>& handle);
  void OnPush(Session& session, Received request,
              const std::weak_ptr<Session>& handle);
  void OnEcho(Session& session, Received request,
              const std::weak_ptr<Session>& handle);

  absl::StatusOr<Selection> SelectGranted(const Session& session,
                                          const std::string& bundle,
                                          const std::string& names) const;
  absl::Status CheckOffer(const Session& session,
                          const pb::PushRequest& request) const;
  absl::StatusOr<uint64_t> TakePush(TensorMessage message,
                                    const pb::PushRequest& request);
  // RESOURCE_EXHAUSTED: max_queued_push_bytes.
  absl::Status CheckQueue(uint64_t nbytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The same, or there is no thread for the writer.
  absl::Status Queue(uint64_t nbytes);
  void Unqueue(uint64_t nbytes);
  void Refuse(Session& session, const Envelope& envelope, absl::Status why);
  void Served(ServedRequest served) {
    if (!options_.on_served) return;
    RunUserCode("on_served", [&] { options_.on_served(served); }).IgnoreError();
  }

  Catalog* const catalog_;
  const CatalogServerOptions options_;
  CatalogService service_;
  mutable absl::Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  int busy_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Session*, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mu_);
  // Where pushes are taken, in the order of their arrival: disks are slow, and
  // the file must be that of the newest version. Made for the first.
  std::unique_ptr<ThreadPool> writer_ ABSL_GUARDED_BY(mu_);
  uint64_t queued_ ABSL_GUARDED_BY(mu_) = 0;  // bytes that wait there
};

bool CatalogServer::State::Enter() {
  absl::MutexLock lock(&mu_);
  if (!stopped_) ++busy_;
  return !stopped_;
}

void CatalogServer::State::Leave() {
  absl::MutexLock lock(&mu_);
  --busy_;
}

void CatalogServer::State::Stop() {
  std::map<Session*, std::shared_ptr<Session>> sessions;
  std::unique_ptr<ThreadPool> writer;
  {
    absl::MutexLock lock(&mu_);
    stopped_ = true;
    mu_.Await(absl::Condition(
        +[](int* busy) { return *busy == 0; }, &busy_));
    sessions.swap(sessions_);
    writer = std::move(writer_);
  }
}

void CatalogServer::State::Forget(Session* session) {
  std::shared_ptr<Session> forgotten;  // its destructor runs without the lock
  absl::MutexLock lock(&mu_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  forgotten = std::move(found->second);
  sessions_.erase(found);
}

Session::Handler CatalogServer::State::Bind(HandlerFn handler,
                                            std::weak_ptr<Session> session) {
  return [weak = weak_from_this(), handler, session = std::move(session)](
             Session& at, Received request) {
    const std::shared_ptr<State> self = weak.lock();
    if (self == nullptr || !self->Enter()) {
      at.ReplyError(request.envelope,
                    absl::UnavailableError("the catalog is being closed"),
                    nullptr);
      return;
    }
    const absl::Cleanup leave = [&self] { self->Leave(); };
    ((*self).*handler)(at, std::move(request), session);
  };
}

absl::Status CatalogServer::State::Serve(std::shared_ptr<Session> session) {
  std::weak_ptr<Session> weak = session;
  FERRY_RETURN_IF_ERROR(session->Handle(kPullType, Bind(&State::OnPull, weak)));
  FERRY_RETURN_IF_ERROR(
      session->Handle(kPushOfferType, Bind(&State::OnPushOffer, weak)));
  FERRY_RETURN_IF_ERROR(session->Handle(kEchoType, Bind(&State::OnEcho, weak)));
  // Who may not push is not even received from.
  if (options_.accept_push && !session->remote_grants().push.empty()) {
    FERRY_RETURN_IF_ERROR(
        session->Handle(kPushType, Bind(&State::OnPush, weak)));
  }
  Session* const key = session.get();
  {
    absl::MutexLock lock(&mu_);
    if (stopped_) return absl::UnavailableError("the catalog is being closed");
    sessions_[key] = session;
  }
  session->OnEnd([weak_self = weak_from_this(), key](SessionReport) {
    if (auto self = weak_self.lock()) self->Forget(key);
  });
  return absl::OkStatus();
}

void CatalogServer::State::Refuse(Session& session, const Envelope& envelope,
                                  absl::Status why) {
  session.ReplyError(envelope, std::move(why), nullptr);
}

void CatalogServer::State::OnPull(Session& session, Received request,
                                  const std::weak_ptr<Session>&) {
  absl::StatusOr<pb::PullRequest> asked =
      ParsePayload<pb::PullRequest>(request.message.payload, "PullRequest");
  absl::StatusOr<Selection> selection =
      asked.ok() ? SelectGranted(session, asked->bundle(), asked->names())
                 : asked.status();
  if (!selection.ok()) {
    Served({"pull", asked.ok() ? asked->bundle() : "?", session.remote().name,
            IdentityOf(session), 0, selection.status()});
    return Refuse(session, request.envelope, selection.status());
  }
  TensorMessage reply = Message(kPullType, selection->reply);
  if (!asked->without_tensors()) {
    reply.names = std::move(selection->names);
    reply.tensors = std::move(selection->tensors);
  }
  ServedRequest served{"pull",
                       asked->bundle(),
                       session.remote().name,
                       IdentityOf(session),
                       selection->reply.nbytes(),
                       absl::OkStatus()};
  session.Reply(request.envelope, std::move(reply),
                SendOptionsWithTimeout(asked->timeout_ms()),
                [weak = weak_from_this(), served = std::move(served),
                 counts = !asked->without_tensors()](
                    absl::StatusOr<Receipt> receipt) mutable {
                  const auto self = weak.lock();
                  if (self == nullptr || (receipt.ok() && !counts)) return;
                  served.status = receipt.status();
                  self->Served(std::move(served));
                });
}

absl::StatusOr<Selection> CatalogServer::State::SelectGranted(
    const Session& session, const std::string& bundle,
    const std::string& names) const {
  const std::vector<BundleGrant> granted = session.remote_grants().pull;
  if (granted.empty()) {
    return NotGranted(session.remote_identity(), "pull",
                      "pull { bundle: \"...\" }");
  }
  if (!bundle.empty()) FERRY_RETURN_IF_ERROR(CheckBundleName(bundle));
  if (!bundle.empty() && !PermitsBundle(granted, bundle)) {
    return NotGranted(session.remote_identity(),
                      absl::StrCat("pull ", Quoted(bundle)),
                      absl::StrCat("pull { bundle: ", Quoted(bundle), " }"));
  }
  absl::StatusOr<Selection> selection =
      Select(*catalog_, bundle, names, granted);
  if (absl::IsPermissionDenied(selection.status())) {
    return NotGranted(
        session.remote_identity(),
        absl::StrCat("pull ", std::string(selection.status().message()),
                     " (narrow the names to leave it out)"),
        "pull { names: \"...\" }");
  }
  return selection;
}

absl::Status CatalogServer::State::CheckOffer(
    const Session& session, const pb::PushRequest& request) const {
  FERRY_RETURN_IF_ERROR(CheckMayPush(session, request.bundle()));
  if (!options_.accept_push) {
    return absl::PermissionDeniedError(
        "this peer takes no pushes; `tensorferry serve` does with --accept "
        "DIR");
  }
  {
    absl::MutexLock lock(&mu_);
    FERRY_RETURN_IF_ERROR(CheckQueue(request.nbytes()));
  }
  if (!options_.check_push) return absl::OkStatus();
  return options_.check_push(request.bundle(), request.nbytes());
}

void CatalogServer::State::OnPushOffer(Session& session, Received request,
                                       const std::weak_ptr<Session>&) {
  const absl::StatusOr<pb::PushRequest> offer =
      ParsePayload<pb::PushRequest>(request.message.payload, "PushRequest");
  const absl::Status status =
      offer.ok() ? CheckOffer(session, *offer) : offer.status();
  if (!status.ok()) {
    Served({"push", offer.ok() ? offer->bundle() : "?", session.remote().name,
            IdentityOf(session), 0, status});
    return Refuse(session, request.envelope, status);
  }
  session.Reply(request.envelope, Message(kPushOfferType, pb::PushReply()), {},
                nullptr);
}

absl::StatusOr<uint64_t> CatalogServer::State::TakePush(
    TensorMessage message, const pb::PushRequest& request) {
  NamedTensors contents;
  contents.names = std::move(message.names);
  contents.tensors = std::move(message.tensors);
  contents.metadata = {request.metadata().begin(), request.metadata().end()};
  contents.file_header = request.file_header();
  FERRY_RETURN_IF_ERROR(CheckNamed(contents));
  FERRY_ASSIGN_OR_RETURN(
      NamedTensors accepted,
      options_.accept_push(request.bundle(), std::move(contents)));
  return catalog_->Publish(request.bundle(), std::move(accepted));
}

absl::Status CatalogServer::State::CheckQueue(uint64_t nbytes) const {
  const uint64_t most = options_.max_queued_push_bytes;
  if (queued_ == 0 || (queued_ <= most && nbytes <= most - queued_)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("pushes of ", queued_, " bytes wait to be taken here, and ",
                   nbytes, " more are beyond the limit of ", most,
                   " (queued_push_bytes): push again later"));
}

absl::Status CatalogServer::State::Queue(uint64_t nbytes) {
  absl::MutexLock lock(&mu_);
  FERRY_RETURN_IF_ERROR(CheckQueue(nbytes));
  if (writer_ == nullptr) {
    FERRY_RETURN_IF_ERROR(CatchExceptions("the writer of pushes", [this] {
      mu_.AssertHeld();
      writer_ = std::make_unique<ThreadPool>(1);
    }));
  }
  queued_ += nbytes;
  return absl::OkStatus();
}

void CatalogServer::State::Unqueue(uint64_t nbytes) {
  absl::MutexLock lock(&mu_);
  queued_ -= nbytes;
}

void CatalogServer::State::OnPush(Session& session, Received received,
                                  const std::weak_ptr<Session>& handle) {
  absl::StatusOr<pb::PushRequest> request =
      ParsePayload<pb::PushRequest>(received.message.payload, "PushRequest");
  if (!request.ok()) {
    Served({"push", "?", session.remote().name, IdentityOf(session),
            received.receipt.bytes, request.status()});
    return Refuse(session, received.envelope, request.status());
  }
  ServedRequest served{"push",
                       request->bundle(),
                       session.remote().name,
                       IdentityOf(session),
                       received.receipt.bytes,
                       absl::OkStatus()};
  // Whether or not it was offered before.
  served.status =
      CheckMayPush(session, request->bundle(), received.message.names);
  const uint64_t held = received.receipt.bytes + request->SpaceUsedLong();
  if (served.status.ok()) served.status = Queue(held);
  if (!served.status.ok()) {
    Refuse(session, received.envelope, served.status);
    return Served(std::move(served));
  }
  absl::Cleanup unqueue = [this, held] { Unqueue(held); };
  auto take = [this, handle, received = std::move(received),
               request = *std::move(request), served = std::move(served),
               unqueue = std::move(unqueue)]() mutable {
    const absl::StatusOr<uint64_t> version = CatchExceptions(
        "taking a push",
        [&] { return TakePush(std::move(received.message), request); });
    std::move(unqueue).Invoke();
    served.status = version.status();
    const auto session = handle.lock();
    if (session == nullptr) {
      if (version.ok()) {
        served.status = absl::UnavailableError(
            "it was taken, but its session ended before it was answered");
      }
      return Served(std::move(served));
    }
    if (!version.ok()) {
      Refuse(*session, received.envelope, version.status());
      return Served(std::move(served));
    }
    session->Reply(received.envelope,
                   Message(kPushType, ReplyTo(received.receipt, *version)),
                   SendOptionsWithTimeout(request.timeout_ms()),
                   [weak = weak_from_this(), served = std::move(served)](
                       absl::StatusOr<Receipt> receipt) mutable {
                     served.status = receipt.status();
                     if (const auto self = weak.lock()) {
                       self->Served(std::move(served));
                     }
                   });
  };
  ThreadPool* writer;
  {
    absl::MutexLock lock(&mu_);
    writer = writer_.get();
  }
  UserExecutor(writer).Run(std::move(take));
}

void CatalogServer::State::OnEcho(Session& session, Received received,
                                  const std::weak_ptr<Session>&) {
  absl::StatusOr<pb::EchoRequest> request =
      ParsePayload<pb::EchoRequest>(received.message.payload, "EchoRequest");
  if (!request.ok()) {
    return Refuse(session, received.envelope, request.status());
  }
  if (session.remote_grants().sessions < 1) {
    return Refuse(
        session, received.envelope,
        NotGranted(session.remote_identity(), "have an echo", "sessions: 1"));
  }
  TensorMessage reply;
  reply.type = kEchoType;
  if (request->with_tensors()) {
    reply.tensors = std::move(received.message.tensors);
    reply.names = std::move(received.message.names);
  }
  session.Reply(received.envelope, std::move(reply),
                SendOptionsWithTimeout(request->timeout_ms()), nullptr);
}

CatalogServer::CatalogServer(Catalog* catalog, CatalogServerOptions options)
    : state_(std::make_shared<State>(catalog, std::move(options))) {}

CatalogServer::~CatalogServer() {
  if (home_.IsThis()) {
    state_->Stop();
  } else {
    new std::shared_ptr<State>(std::move(state_));  // the parent's: left alone
  }
}

void CatalogServer::MountOn(PeerOptions& options) {
  if (!home_.IsThis()) return;
  options.mount.push_back(
      [state = state_](grpc::ServerBuilder& builder,
                       std::shared_ptr<const Access> access) {
        state->service().RegisterOn(builder, std::move(access));
      });
}

absl::Status CatalogServer::Serve(std::shared_ptr<Session> session) {
  FERRY_RETURN_IF_ERROR(home_.Check());
  return state_->Serve(std::move(session));
}

}  // namespace tensorferry
