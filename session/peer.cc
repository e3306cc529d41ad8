#include "session/peer.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/descriptor_budget.h"
#include "base/exception_status.h"
#include "base/loop.h"
#include "base/random_bytes.h"
#include "base/status_macros.h"
#include "base/user_code.h"
#include "control/address.h"
#include "control/control_client.h"
#include "control/control_listener.h"
#include "control/control_service.h"
#include "control/grpc_bounds.h"
#include "control/lease.h"
#include "control/session_host.h"
#include "control/standard_services.h"
#include "control/text.h"
#include "session/local_capabilities.h"
#include "session/peer_handle.h"
#include "session/plan_rules.h"
#include "session/session_core.h"
#include "transfer/endpoint.h"

namespace tensorferry {
namespace {

constexpr int kCallbackThreads = 2;
constexpr size_t kMaxNameBytes = 128;
// Calls on one connection, beyond those that carry sessions.
constexpr int kMoreCalls = 64;

// A lane is a pipe of tensorpipe's: a connection, and those of its channels.
constexpr int kDescriptorsPerLane = 3;
// How much of what is free one session may take.
constexpr int kShareOfASession = 4;

int DescriptorsOf(const SessionPlan& plan) {
  return kDescriptorsPerLane * (1 + static_cast<int>(plan.limits.body_lanes));
}

bool IsLoopbackHost(const std::string& host) {
  return IsLoopback(absl::StrContains(host, ':')
                        ? absl::StrCat("[", host, "]:0")
                        : absl::StrCat(host, ":0"));
}

// Whether it is proved who calls.
bool Authenticates(const ServerSecurity& security) {
  return !security.tls_client_ca.empty() || !security.token_file.empty();
}

absl::Status CheckControl(const std::string& control,
                          const ServerSecurity& security) {
  FERRY_RETURN_IF_ERROR(ValidateControlAddress(control));
  const bool secure = !security.tls_cert.empty() && Authenticates(security);
  if (IsLoopback(control) || secure || security.insecure) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "PeerOptions.control '", control,
      "' is not a loopback address: give security.tls_cert and tls_key, and "
      "tls_client_ca or token_file, to know who calls from other hosts; or "
      "listen on 127.0.0.1, [::1] or unix:; or say insecure"));
}

absl::Status CheckData(const PeerOptions& options) {
  if (IsLoopbackHost(options.data) || options.security.insecure ||
      options.control.rfind("unix:", 0) == 0 ||
      Authenticates(options.security)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "PeerOptions.data '", options.data,
      "' is not a loopback address: its keys go over the control plane, which "
      "has to authenticate its callers then (security.tls_client_ca or "
      "token_file); or say insecure"));
}

absl::Status CheckAtLeast(absl::string_view option, int value, int least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "PeerOptions.", option, " is ", value, ", want at least ", least));
}

absl::Status CheckOptions(const PeerOptions& options) {
  if (options.name.empty() || options.name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("PeerOptions.name has ", options.name.size(),
                     " bytes; it needs 1 to ", kMaxNameBytes));
  }
  if (absl::Status name = ValidateText(options.name); !name.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("PeerOptions.name ", name.message()));
  }
  if (options.lease < kShortestLease || options.lease > kLongestLease) {
    return absl::InvalidArgumentError(absl::StrCat(
        "PeerOptions.lease is ", absl::FormatDuration(options.lease), ", want ",
        absl::FormatDuration(kShortestLease), " to ",
        absl::FormatDuration(kLongestLease)));
  }
  if (options.heartbeat < kShortestHeartbeat ||
      options.heartbeat > options.lease / 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "PeerOptions.heartbeat is ", absl::FormatDuration(options.heartbeat),
        ", want ", absl::FormatDuration(kShortestHeartbeat),
        " to half the lease, ", absl::FormatDuration(options.lease / 2)));
  }
  if (options.max_sessions < 1 || options.max_sessions > kMostSessions) {
    return absl::InvalidArgumentError(
        absl::StrCat("PeerOptions.max_sessions is ", options.max_sessions,
                     ", want 1 to ", kMostSessions));
  }
  FERRY_RETURN_IF_ERROR(CheckAtLeast("max_sessions_per_identity",
                                     options.max_sessions_per_identity, 0));
  FERRY_RETURN_IF_ERROR(
      CheckAtLeast("max_handshakes", options.max_handshakes, 1));
  FERRY_RETURN_IF_ERROR(CheckAtLeast("max_handshakes_per_address",
                                     options.max_handshakes_per_address, 1));
  return CheckAtLeast("max_connections_per_session",
                      options.max_connections_per_session, 1);
}

class LivePeer final : public Peer, public SessionHost {
 public:
  explicit LivePeer(PeerOptions options)
      : options_(std::move(options)),
        id_{.name = options_.name},
        converters_(ConverterRegistry::OrGlobal(options_.converters)),
        backends_(options_.backends != nullptr ? *options_.backends
                                               : BackendRegistry::Global()),
        address_(options_.control) {}
  ~LivePeer() override;

  absl::Status Start();
  void Mount(grpc::ServerBuilder& builder);
  absl::Status Serve();

  // Peer
  const PeerId& id() const override { return id_; }
  const std::string& control_address() const override { return address_; }
  Capabilities GetCapabilities() const override {
    return CapabilitiesWith(options_.security.insecure);
  }
  void Accept(
      std::function<void(std::shared_ptr<Session>)> on_session) override;
  void Connect(std::string address, Offer offer, absl::Duration timeout,
               Done<std::shared_ptr<Session>> done) override;
  void Explain(std::string address, Offer offer, absl::Duration timeout,
               Done<Explanation> done) override;
  std::vector<SessionRecord> ListSessions() override;
  void Shutdown(absl::Duration drain, DoneStatus done) override;

  // SessionHost
  Capabilities GetCapabilities() override {
    return std::as_const(*this).GetCapabilities();
  }
  Policy GetPolicy() override { return options_.policy; }
  absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) override;
  std::pair<uint64_t, uint64_t> BytesMoved(
      const std::string& session_id) override;

 private:
  Limits LimitsNow() const;
  // Callee and caller may differ in whether data may go between hosts in plain
  // text.
  Capabilities CapabilitiesWith(bool plaintext_between_hosts) const;
  absl::StatusOr<std::unique_ptr<Endpoint>> NewEndpoint() const;
  std::shared_ptr<SessionCore> NewCore(Identity remote,
                                       std::shared_ptr<const Access> access,
                                       Done<std::shared_ptr<Session>> on_open);
  absl::Status ShuttingDown() const {
    return absl::UnavailableError(
        absl::StrCat("peer '", id_.name, "' is shutting down"));
  }
  // UNAVAILABLE: the peer is shutting down.
  absl::Status Remember(const std::shared_ptr<SessionCore>& core);
  void Forget(SessionCore* core);
  void Deliver(std::shared_ptr<Session> session);
  void DialLanes(const std::shared_ptr<SessionCore>& core,
                 ControlClient::Accepted accepted, absl::Time deadline);
  void Dial(const std::shared_ptr<SessionCore>& core, LaneTicket ticket,
            absl::Time deadline);
  absl::StatusOr<std::shared_ptr<ControlClient>> NewClient(
      const std::string& address) const;
  template <class Tell>
  absl::Status BeginExplain(const std::string& address, const Offer& offer,
                            absl::Duration timeout, Tell& tell);
  std::vector<std::shared_ptr<SessionCore>> Sessions() const;

  const PeerOptions options_;
  PeerId id_;  // its epoch is drawn by Start
  const ConverterRegistry& converters_;
  const BackendRegistry& backends_;
  std::string address_;

  // Destroyed by ~LivePeer in an order of its own.
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<UserExecutor> user_executor_;
  Executor* executor_ = nullptr;        // of all user code
  std::unique_ptr<Loop> control_loop_;  // of all clients
  std::unique_ptr<Loop> loop_;          // timers, and the end of clients
  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<const Access> access_;
  std::unique_ptr<ControlService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ControlListener> listener_;

  mutable absl::Mutex mu_;
  // Every session from its first step until it has ended.
  absl::flat_hash_map<SessionCore*, std::shared_ptr<SessionCore>> sessions_
      ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, SessionCore*> accepted_
      ABSL_GUARDED_BY(mu_);  // by id
  std::function<void(std::shared_ptr<Session>)> on_session_
      ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, std::shared_ptr<ControlClient>> explaining_
      ABSL_GUARDED_BY(mu_);
  uint64_t next_explain_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<DoneStatus> stopped_ ABSL_GUARDED_BY(mu_);
};

absl::Status LivePeer::Start() {
  FERRY_RETURN_IF_ERROR(CheckOptions(options_));
  FERRY_RETURN_IF_ERROR(RandomBytes(&id_.epoch, sizeof(id_.epoch)));
  if (options_.executor == nullptr) {
    pool_ = std::make_unique<ThreadPool>(kCallbackThreads);
  }
  user_executor_ = std::make_unique<UserExecutor>(
      options_.executor != nullptr ? options_.executor : pool_.get());
  executor_ = user_executor_.get();
  control_loop_ = std::make_unique<Loop>(options_.clock);
  loop_ = std::make_unique<Loop>(options_.clock);
  FERRY_ASSIGN_OR_RETURN(access_, Access::Create(options_.security));
  FERRY_ASSIGN_OR_RETURN(endpoint_, NewEndpoint());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Endpoint>> LivePeer::NewEndpoint() const {
  HubOptions data;
  data.host = options_.data;
  data.lowest_port = options_.lowest_data_port;
  data.highest_port = options_.highest_data_port;
  data.advertise = options_.advertise;
  data.plaintext_from_hosts = options_.security.insecure;
  data.plaintext_to_hosts = options_.client_security.insecure;
  data.max_handshakes = options_.max_handshakes;
  data.max_handshakes_per_address = options_.max_handshakes_per_address;
  data.max_connections_per_session = options_.max_connections_per_session;
  return Endpoint::Create({.name = options_.name,
                           .data = std::move(data),
                           .executor = executor_,
                           .clock = options_.clock,
                           .backends = &backends_,
                           .converters = &converters_,
                           .pool_bytes = options_.pool_bytes});
}

// Where descriptors are scarce, more sessions with fewer lanes.
Limits LivePeer::LimitsNow() const {
  Limits limits = options_.limits;
  const int lanes = DescriptorBudget::OfProcess().Free() / kShareOfASession /
                    kDescriptorsPerLane;
  limits.body_lanes =
      std::min<uint32_t>(limits.body_lanes, std::max(1, lanes - 1));
  return limits;
}

Capabilities LivePeer::CapabilitiesWith(bool plaintext_between_hosts) const {
  return LocalCapabilities(id_, LimitsNow(), converters_, backends_,
                           plaintext_between_hosts);
}

void LivePeer::Mount(grpc::ServerBuilder& builder) {
  service_ = std::make_unique<ControlService>(
      this, ControlServiceOptions{
                .heartbeat = options_.heartbeat,
                .lease = options_.lease,
                .max_sessions = options_.max_sessions,
                .max_sessions_per_identity = options_.max_sessions_per_identity,
                .clock = options_.clock,
                .access = access_});
  service_->RegisterOn(builder);
  for (const auto& mount : options_.mount) mount(builder, access_);
}

absl::Status LivePeer::Serve() {
  FERRY_RETURN_IF_ERROR(CheckControl(options_.control, options_.security));
  EnableHealthAndReflection();
  grpc::ServerBuilder builder;
  FERRY_ASSIGN_OR_RETURN(
      listener_, ControlListener::Listen(
                     {.address = options_.control,
                      .security = options_.security,
                      .access = access_,
                      .max_silent = options_.max_handshakes,
                      .max_connections = int64_t{options_.max_sessions} +
                                         options_.max_handshakes,
                      .max_calls = options_.max_sessions + kMoreCalls,
                      .lease = options_.lease,
                      .clock = options_.clock},
                     builder));
  Mount(builder);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::InternalError("gRPC did not start a server");
  }
  address_ = listener_->address();
  listener_->Start();
  return absl::OkStatus();
}

LivePeer::~LivePeer() {
  std::map<uint64_t, std::shared_ptr<ControlClient>> explaining;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    explaining.swap(explaining_);
  }
  for (const auto& core : Sessions()) {
    core->EndUnlessOpen(ShuttingDown());
    core->End(absl::OkStatus());
  }
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](LivePeer* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mu_) {
          return self->sessions_.empty();
        },
        this));
  }
  if (service_ != nullptr) {
    service_->Shutdown(absl::UnavailableError(
        absl::StrCat("peer '", id_.name, "' has shut down")));
  }
  listener_.reset();
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  service_.reset();
  server_.reset();
  explaining.clear();  // what they still wait for is cancelled
  loop_.reset();       // with the clients that wait there for their end
  control_loop_.reset();
  endpoint_.reset();
  pool_.reset();
}

std::shared_ptr<SessionCore> LivePeer::NewCore(
    Identity remote, std::shared_ptr<const Access> access,
    Done<std::shared_ptr<Session>> on_open) {
  return std::make_shared<SessionCore>(
      SessionCore::Environment{
          .executor = executor_,
          .loop = loop_.get(),
          .on_ended = [this](SessionCore* ended) { Forget(ended); },
          .remote_identity = std::move(remote),
          .access = std::move(access)},
      std::move(on_open));
}

absl::Status LivePeer::Remember(const std::shared_ptr<SessionCore>& core) {
  absl::MutexLock lock(&mu_);
  if (stopping_) return ShuttingDown();
  sessions_[core.get()] = core;
  return absl::OkStatus();
}

// The last session to go runs what waits for the end before it is forgotten:
// afterwards the peer may be gone, and its executor with it.
void LivePeer::Forget(SessionCore* core) {
  while (true) {
    std::vector<DoneStatus> stopped;
    {
      absl::MutexLock lock(&mu_);
      auto it = sessions_.find(core);
      if (it == sessions_.end()) return;
      if (sessions_.size() == 1) stopped.swap(stopped_);
      if (stopped.empty()) {
        // The caller stands in the session's own code: it must outlive that.
        loop_->Post([kept = std::move(it->second)] {});
        accepted_.erase(core->id());
        sessions_.erase(it);
        return;
      }
    }
    for (DoneStatus& done : stopped) {
      executor_->Run([done = std::move(done)]() mutable {
        std::move(done)(absl::OkStatus());
      });
    }
  }
}

std::vector<std::shared_ptr<SessionCore>> LivePeer::Sessions() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<SessionCore>> result;
  for (const auto& [key, core] : sessions_) result.push_back(core);
  return result;
}

// ---- accepting ----

void LivePeer::Accept(
    std::function<void(std::shared_ptr<Session>)> on_session) {
  absl::MutexLock lock(&mu_);
  on_session_ = std::move(on_session);
}

absl::StatusOr<SessionHost::Admitted> LivePeer::Admit(
    const std::string& session_id, const SessionPlan& plan,
    const Identity& caller, std::shared_ptr<ControlStream> stream) {
  {
    absl::MutexLock lock(&mu_);
    if (on_session_ == nullptr) {
      return absl::UnavailableError(
          absl::StrCat("peer '", id_.name, "' accepts no sessions"));
    }
  }
  FERRY_ASSIGN_OR_RETURN(TransferRules rules,
                         RulesFor(plan, Side::kCallee, session_id));
  FERRY_ASSIGN_OR_RETURN(auto descriptors,
                         DescriptorBudget::OfProcess().Take(
                             DescriptorsOf(plan), "a session of the callee"));
  auto core =
      NewCore(caller, access_,
              [this, stream](absl::StatusOr<std::shared_ptr<Session>> session) {
                if (!session.ok())
                  return;  // the caller hears of it by the goodbye
                stream->SendOpened();
                Deliver(*std::move(session));
              });
  FERRY_RETURN_IF_ERROR(Remember(core));
  // Its stream has no end to tell if it is not admitted.
  absl::Cleanup not_admitted = [&core] {
    CatchExceptions("ending a session", [&] {
      core->OnStreamEnded(absl::UnavailableError("it was not admitted"));
    }).IgnoreError();
  };
  auto expected = endpoint_->Expect(
      std::move(rules),
      // When the lanes are up they count themselves.
      [core, claim = std::move(descriptors)](absl::Status up) {
        if (!up.ok()) return core->End(std::move(up));
        core->CalleeReady();
      },
      [core](absl::Status down) { core->End(std::move(down)); });
  if (!expected.ok()) return expected.status();
  core->Begin(session_id, plan, plan.caller, stream);
  core->Attach(std::move(expected->link));
  Admitted admitted{.ticket = {.session_id = session_id,
                               .data_addresses = std::move(expected->addresses),
                               .session_key = std::move(expected->key)},
                    .events = core};
  absl::MutexLock lock(&mu_);
  if (sessions_.contains(core.get())) accepted_[session_id] = core.get();
  std::move(not_admitted).Cancel();
  return admitted;
}

void LivePeer::Deliver(std::shared_ptr<Session> session) {
  std::function<void(std::shared_ptr<Session>)> on_session;
  {
    absl::MutexLock lock(&mu_);
    on_session = on_session_;
  }
  if (on_session == nullptr) return;  // no longer; dropping it ends it
  executor_->Run([on_session = std::move(on_session),
                  session = std::move(session)]() mutable {
    // A copy: dropped with what is thrown, it would end the session as wished.
    absl::Status ran = RunUserCode("on_session", [&] { on_session(session); });
    if (!ran.ok()) static_cast<SessionCore&>(*session).End(ran);
  });
}

std::pair<uint64_t, uint64_t> LivePeer::BytesMoved(
    const std::string& session_id) {
  std::shared_ptr<SessionCore> core;
  {
    absl::MutexLock lock(&mu_);
    auto it = accepted_.find(session_id);
    if (it == accepted_.end()) return {0, 0};
    core = sessions_.at(it->second);
  }
  const LinkCounters counters = core->counters();
  return {counters.bytes_sent, counters.bytes_received};
}

std::vector<SessionRecord> LivePeer::ListSessions() {
  if (service_ == nullptr) return {};
  std::vector<SessionRecord> records = service_->sessions().List();
  for (SessionRecord& record : records) {
    std::tie(record.bytes_sent, record.bytes_received) = BytesMoved(record.id);
  }
  return records;
}

// ---- connecting ----

absl::StatusOr<std::shared_ptr<ControlClient>> LivePeer::NewClient(
    const std::string& address) const {
  FERRY_ASSIGN_OR_RETURN(
      std::unique_ptr<ControlClient> client,
      ControlClient::Create(address, {.heartbeat = options_.heartbeat,
                                      .lease = options_.lease,
                                      .loop = control_loop_.get(),
                                      .security = options_.client_security}));
  // A client must not be destroyed by one of its own callbacks, which may well
  // hold the last reference: the loop does it.
  Loop* loop = loop_.get();
  return std::shared_ptr<ControlClient>(
      client.release(), [loop](ControlClient* client) {
        loop->Post([client = std::unique_ptr<ControlClient>(client)] {});
      });
}

void LivePeer::Connect(std::string address, Offer offer, absl::Duration timeout,
                       Done<std::shared_ptr<Session>> done) {
  auto core =
      NewCore(Identity(), Access::Everybody(),
              [this, done = std::move(done)](
                  absl::StatusOr<std::shared_ptr<Session>> session) mutable {
                executor_->Run([done = std::move(done),
                                session = std::move(session)]() mutable {
                  std::move(done)(std::move(session));
                });
              });
  if (absl::Status begun = Remember(core); !begun.ok()) {
    return core->End(std::move(begun));
  }
  auto client = NewClient(address);
  if (!client.ok()) return core->End(client.status());
  core->KeepUntilEnded(*client);
  const absl::Time deadline = options_.clock->Now() + timeout;
  core->OpenBefore(deadline,
                   absl::StrCat("no session with ", address, " within ",
                                absl::FormatDuration(timeout)));
  (*client)->OpenSession(
      offer, CapabilitiesWith(options_.client_security.insecure), core, timeout,
      [this, core, deadline](absl::StatusOr<ControlClient::Accepted> accepted) {
        if (!accepted.ok()) return core->End(accepted.status());
        DialLanes(core, *std::move(accepted), deadline);
      });
}

void LivePeer::DialLanes(const std::shared_ptr<SessionCore>& core,
                         ControlClient::Accepted accepted,
                         absl::Time deadline) {
  PeerId callee = accepted.plan.callee;
  if (!core->Begin(accepted.ticket.session_id, std::move(accepted.plan),
                   std::move(callee), std::move(accepted.stream))) {
    return;  // ended meanwhile
  }
  // Streams may take a device seconds, and heartbeats come on this loop.
  loop_->Post(
      [this, core, ticket = std::move(accepted.ticket), deadline]() mutable {
        const absl::Status room = CatchExceptions(
            "dialing", [&] { Dial(core, std::move(ticket), deadline); });
        if (!room.ok()) core->End(room);
      });
}

void LivePeer::Dial(const std::shared_ptr<SessionCore>& core, LaneTicket ticket,
                    absl::Time deadline) {
  auto rules = RulesFor(core->plan(), Side::kCaller, core->id());
  if (!rules.ok()) return core->End(rules.status());
  auto descriptors = DescriptorBudget::OfProcess().Take(
      DescriptorsOf(core->plan()), "a session of the caller");
  if (!descriptors.ok()) return core->End(descriptors.status());
  endpoint_->Dial(
      std::move(ticket.data_addresses), ticket.session_key, *std::move(rules),
      deadline - options_.clock->Now(),
      [core](absl::Status down) { core->End(std::move(down)); },
      [core, claim = *std::move(descriptors)](
          absl::StatusOr<std::shared_ptr<Link>> link) {
        if (!link.ok()) return core->End(link.status());
        core->Attach(*std::move(link));
      });
}

void LivePeer::Explain(std::string address, Offer offer, absl::Duration timeout,
                       Done<Explanation> done) {
  auto tell = [this, done = std::move(done)](
                  absl::StatusOr<Explanation> explanation) mutable {
    executor_->Run([done = std::move(done),
                    explanation = std::move(explanation)]() mutable {
      std::move(done)(std::move(explanation));
    });
  };
  absl::Status begun = BeginExplain(address, offer, timeout, tell);
  if (!begun.ok()) tell(std::move(begun));
}

// Takes `tell` with OK only. The lock is held until the client is among those
// that the end of the peer awaits.
template <class Tell>
absl::Status LivePeer::BeginExplain(const std::string& address,
                                    const Offer& offer, absl::Duration timeout,
                                    Tell& tell) {
  const Capabilities own = CapabilitiesWith(options_.client_security.insecure);
  absl::MutexLock lock(&mu_);
  if (stopping_) return ShuttingDown();
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<ControlClient> client,
                         NewClient(address));
  const uint64_t key = next_explain_++;
  client->Explain(offer, own, timeout,
                  [this, key, tell = std::move(tell)](
                      absl::StatusOr<Explanation> explanation) mutable {
                    tell(std::move(explanation));
                    absl::MutexLock lock(&mu_);
                    explaining_.erase(key);
                  });
  explaining_[key] = std::move(client);
  return absl::OkStatus();
}

void LivePeer::Shutdown(absl::Duration drain, DoneStatus done) {
  std::vector<std::shared_ptr<SessionCore>> sessions;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    for (const auto& [key, core] : sessions_) sessions.push_back(core);
    if (!sessions.empty()) stopped_.push_back(std::move(done));
  }
  if (server_ != nullptr && server_->GetHealthCheckService() != nullptr) {
    server_->GetHealthCheckService()->SetServingStatus(false);
  }
  if (sessions.empty()) {
    executor_->Run([done = std::move(done)]() mutable {
      std::move(done)(absl::OkStatus());
    });
  }
  for (const auto& core : sessions) {
    core->EndUnlessOpen(ShuttingDown());
    core->Close(drain, [](absl::StatusOr<SessionReport>) {});
  }
}

// A peer that has started and then was let in by `open`. Threads that cannot be
// had are thrown.
absl::StatusOr<std::unique_ptr<Peer>> Started(
    PeerOptions options, absl::FunctionRef<absl::Status(LivePeer&)> open) {
  std::unique_ptr<Peer> handle;
  absl::Status status;
  FERRY_RETURN_IF_ERROR(CatchExceptions("starting a peer", [&] {
    auto peer = std::make_unique<LivePeer>(std::move(options));
    status = peer->Start();
    if (status.ok()) status = open(*peer);
    if (status.ok()) handle = MakePeerHandle(std::move(peer));
  }));
  FERRY_RETURN_IF_ERROR(status);
  return handle;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> Peer::Create(PeerOptions options) {
  const bool listens = !options.control.empty();
  if (listens) FERRY_RETURN_IF_ERROR(CheckData(options));
  return Started(std::move(options), [listens](LivePeer& peer) {
    return listens ? peer.Serve() : absl::OkStatus();
  });
}

absl::StatusOr<std::unique_ptr<Peer>> Peer::CreateOn(
    grpc::ServerBuilder& builder, PeerOptions options) {
  // Where the user's server listens is not known here.
  if (options.control == PeerOptions().control) options.control.clear();
  FERRY_RETURN_IF_ERROR(CheckData(options));
  return Started(std::move(options), [&builder](LivePeer& peer) {
    AllowKeepAlive(builder);
    peer.Mount(builder);
    return absl::OkStatus();
  });
}

}  // namespace tensorferry
