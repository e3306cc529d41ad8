#include "tests/simulation/session_world.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/access.h"
#include "control/callee_side.h"
#include "control/caller_side.h"
#include "control/session_host.h"
#include "session/session_core.h"
#include "tests/control/test_values.h"
#include "tests/simulation/event_queue.h"
#include "tests/simulation/simulated_call.h"
#include "tests/simulation/simulated_lanes.h"
#include "tests/simulation/simulated_link.h"
#include "transport/handshake.h"

namespace tensorferry {
namespace simulation {
namespace {

constexpr int kCaller = 0, kCallee = 1;

// What the control streams and the session machine grant an end.
constexpr absl::Duration kLinger = absl::Seconds(2);
constexpr absl::Duration kLastWords = absl::Seconds(2);
constexpr absl::Duration kTicketLifetime = absl::Seconds(10);
// What an end may hold of a connection that has proved nothing.
constexpr size_t kMostBeforeProof = 4096;
static_assert(sizeof(ServerHandshake) + SessionKey::kLongestId <
              kMostBeforeProof);
// Longer than what is begun takes where nothing is wrong.
constexpr absl::Duration kCalmDrain = absl::Seconds(12);
constexpr absl::Duration kLongestOpening = absl::Seconds(10);

class World;

// One process of a machine: it has an epoch, and may end at any time. What it
// does afterwards, while its objects are taken down, nobody sees.
struct Process final : SessionHost {
  Process(World* world, int machine, uint64_t epoch);

  Capabilities GetCapabilities() override;
  Policy GetPolicy() override { return {}; }
  absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) override;
  std::pair<uint64_t, uint64_t> BytesMoved(const std::string&) override {
    return {0, 0};
  }

  World* const world;
  const int machine;
  const uint64_t epoch;
  ProcessState state;
  SimulatedLoop loop;
  bool dead = false;
  std::unique_ptr<ServiceShared> service;  // of the callee's machine
};

// Where nothing is wrong: the limit of sessions, and another epoch.
bool MayRefuse(const absl::Status& why) {
  return absl::IsResourceExhausted(why) || absl::IsFailedPrecondition(why);
}

// One side of a session: a SessionCore, and what its user does with it. Looks
// at what the core says and does.
class SessionSide final : public ControlEvents,
                          public std::enable_shared_from_this<SessionSide> {
 public:
  SessionSide(World* world, Process* process, int end);

  // False: it has ended.
  bool Begin(std::string id, SessionPlan plan, PeerId remote,
             std::shared_ptr<ControlStream> stream);
  void Attach(std::shared_ptr<SimulatedLanes> lanes);
  void End(absl::Status why) { core_->End(std::move(why)); }
  void Close(absl::Duration drain);
  void DropHandle();
  // A call that nobody answers in that time.
  void Call(absl::Duration timeout);
  void CalleeReady() { core_->CalleeReady(); }
  void OpenBefore(absl::Time deadline) { core_->OpenBefore(deadline, "late"); }
  void KeepUntilEnded(std::shared_ptr<void> kept) {
    core_->KeepUntilEnded(std::move(kept));
  }

  // ControlEvents
  void OnOpened() override {
    Hear("opened");
    core_->OnOpened();
  }
  void OnDrain() override {
    Hear("drain");
    core_->OnDrain();
  }
  void OnStreamEnded(absl::Status why) override {
    Hear(absl::StrCat("the end: ", why.ToString()).c_str());
    ++stream_ends_;
    core_->OnStreamEnded(std::move(why));
  }

  Process* process() const { return process_; }
  int end() const { return end_; }
  bool finished() const { return finished_ > 0; }
  const std::string& id() const { return id_; }
  SimulatedLanes* lanes() const { return lanes_.get(); }
  void CheckForgotten();
  // Of what the core says on its stream.
  void CheckSays(const absl::Status* goodbye);

 private:
  void Hear(const char* what);
  void Told(absl::StatusOr<std::shared_ptr<Session>> opened);
  void Finished();
  void Reported(const SessionReport& report);

  World* const world_;
  Process* const process_;
  const int end_;
  const std::shared_ptr<SessionCore> core_;
  std::string id_;
  std::shared_ptr<ControlStream> stream_;
  std::shared_ptr<SimulatedLanes> lanes_;
  std::shared_ptr<Session> handle_;  // the user's
  int calls_ = 0, closes_ = 0;       // that have not ended
  int told_ = 0, finished_ = 0, reported_ = 0, stream_ends_ = 0;
};

// The stream that a core has.
class WatchedStream final : public ControlStream {
 public:
  WatchedStream(SessionSide* side, std::shared_ptr<ControlStream> stream)
      : side_(side), stream_(std::move(stream)) {}
  void SendOpened() override { stream_->SendOpened(); }
  void SendDrain() override {
    side_->CheckSays(nullptr);
    stream_->SendDrain();
  }
  void SendGoodbye(absl::Status why) override {
    side_->CheckSays(&why);
    stream_->SendGoodbye(std::move(why));
  }

 private:
  SessionSide* const side_;  // lives as long as the world
  const std::shared_ptr<ControlStream> stream_;
};

class SimulatedCaller final : public CallerSide {
 public:
  SimulatedCaller(std::shared_ptr<SimulatedCall> call,
                  std::shared_ptr<ClientShared> shared, const Offer& offer,
                  const Capabilities& caller,
                  std::shared_ptr<ControlEvents> events,
                  Done<ControlClient::Accepted> done)
      : CallerSide(std::move(shared), offer, caller, std::move(events),
                   std::move(done)),
        call_(std::move(call)) {}

 private:
  void MakeCall() override { call_->BindClient(this); }
  void CancelCall() override { call_->CancelByClient(); }
  const std::shared_ptr<SimulatedCall> call_;
};

Caller Anybody() { return {.identity = {}, .grants = Grants::All()}; }

class SimulatedCallee final : public CalleeSide {
 public:
  SimulatedCallee(SimulatedCall* call, ServiceShared* shared)
      : CalleeSide(shared, nullptr, Anybody()), call_(call) {}

 private:
  void CancelCall() override { call_->CancelByServer(); }
  SimulatedCall* const call_;  // outlives what it is bound to
};

class World {
 public:
  World(absl::AnyInvocable<uint64_t()> draw, bool trace)
      : draw_(std::move(draw)), trace_(trace) {}
  ~World() { queue_.Clear(); }

  WorldReport Run();

  uint64_t Draw(uint64_t below) { return draw_() % below; }
  bool Chance(uint64_t in) { return Draw(in) == 0; }
  absl::Duration DrawTime(absl::Duration below) {
    return absl::Milliseconds(Draw(absl::ToInt64Milliseconds(below)));
  }
  // Of one message: as a rule short.
  absl::Duration Delay() {
    return Chance(20) ? absl::Milliseconds(Draw(calm_ ? 100 : 1500))
                      : absl::Microseconds(50 + Draw(20000));
  }
  void Fail(const std::string& what) {
    if (report_.failure.empty()) report_.failure = what;
    Trace("FAILED: ", what);
  }
  template <class... What>
  void Trace(const What&... what) {
    if (!trace_) return;
    std::printf("%9.3f  %s\n",
                absl::ToDoubleSeconds(queue_.Now() - absl::UnixEpoch()),
                absl::StrCat(what...).c_str());
  }

  EventQueue& queue() { return queue_; }
  bool calm() const { return calm_; }
  absl::Duration lease() const { return lease_; }
  WorldReport& report() { return report_; }
  std::string NewId() { return absl::StrCat("session", ++ids_); }

  void Remember(const std::shared_ptr<SessionSide>& side) {
    sides_.push_back(side);
  }
  // The lanes that a callee expects, by session.
  absl::StatusOr<LaneTicket> Expect(const std::string& id,
                                    const std::shared_ptr<SessionSide>& callee);
  void Dial(const std::shared_ptr<SessionSide>& caller, LaneTicket ticket,
            bool intruder = false);
  void OnOpen(const std::shared_ptr<SessionSide>& side);
  void OnRefused(const absl::Status& why);

 private:
  struct Expected {
    std::shared_ptr<SessionSide> callee;
    std::shared_ptr<SimulatedLanes> lanes;
    std::string key;
  };
  struct Call {
    std::shared_ptr<SimulatedCall> call;
    Process* client;
    Process* server;
  };

  // A connection for lanes that is being made.
  struct Dialed {
    std::shared_ptr<SessionSide> caller;
    Process* callee;
    std::string session_id;
    bool intruder;
    ClientHandshake client;
    ServerHandshake server;
    size_t received = 0;                              // by both ends
    std::shared_ptr<SimulatedLanes> lanes = nullptr;  // once the caller proved
  };

  void Exchange(const std::shared_ptr<Dialed>& dial, int from);
  void CallerProved(const std::shared_ptr<Dialed>& dial);
  void CalleeProved(const std::shared_ptr<Dialed>& dial);
  Nonce DrawNonce();
  Process& machine(int which) { return *processes_[machines_[which]]; }
  void StartProcess(int which);
  void Connect();
  void DrawFaults();
  void BreakCall();
  void BreakLanes();
  void Stop(int which, absl::Duration time);
  void Crash(int which, bool silent);
  void Leave();
  void CloseSession();
  void SetCut(bool cut);
  void FallSilent(int which);
  absl::Duration SilenceBound() const;
  void EndAll();
  void CheckNothingLeft();

  absl::AnyInvocable<uint64_t()> draw_;
  const bool trace_;
  EventQueue queue_;
  WorldReport report_;
  bool calm_ = false;
  absl::Duration lease_, heartbeat_;
  int max_sessions_ = 0;
  int ids_ = 0;
  std::vector<std::unique_ptr<Process>> processes_;
  size_t machines_[2] = {0, 0};
  std::vector<std::shared_ptr<SessionSide>> sides_;
  std::vector<std::weak_ptr<ClientShared>> clients_;
  std::vector<Call> calls_;
  std::vector<std::shared_ptr<SimulatedLanes>> lanes_;
  std::map<std::string, Expected> expected_;
  bool cut_ = false;
  bool over_ = false;      // no new sessions
  int heals_[2] = {0, 0};  // changes when a machine is heard of again
};

// ---- processes

Process::Process(World* world_in, int machine_in, uint64_t epoch_in)
    : world(world_in),
      machine(machine_in),
      epoch(epoch_in),
      loop(&world_in->queue(), &state) {}

Capabilities Process::GetCapabilities() {
  static const Capabilities* const kCapabilities =
      new Capabilities(testing::PeerWith("machine", {}));
  Capabilities capabilities = *kCapabilities;
  capabilities.peer.epoch = epoch;
  return capabilities;
}

absl::StatusOr<SessionHost::Admitted> Process::Admit(
    const std::string& session_id, const SessionPlan& plan, const Identity&,
    std::shared_ptr<ControlStream> stream) {
  if (dead) return absl::UnavailableError("gone");
  auto side = std::make_shared<SessionSide>(world, this, kCallee);
  world->Remember(side);
  auto ticket = world->Expect(session_id, side);
  side->Begin(session_id, plan, plan.caller, std::move(stream));
  return Admitted{.ticket = *std::move(ticket), .events = side};
}

// ---- sessions

SessionSide::SessionSide(World* world, Process* process, int end)
    : world_(world),
      process_(process),
      end_(end),
      core_(std::make_shared<SessionCore>(
          SessionCore::Environment{
              .executor = &process->loop,
              .loop = &process->loop,
              .on_ended = [this](SessionCore*) { Finished(); },
              .remote_identity = {},
              .access = Access::Everybody()},
          [this](absl::StatusOr<std::shared_ptr<Session>> opened) {
            Told(std::move(opened));
          })) {
  core_->OnEnd([this](SessionReport report) { Reported(report); });
}

bool SessionSide::Begin(std::string id, SessionPlan plan, PeerId remote,
                        std::shared_ptr<ControlStream> stream) {
  id_ = id;
  stream_ = stream;
  return core_->Begin(std::move(id), std::move(plan), std::move(remote),
                      std::make_shared<WatchedStream>(this, std::move(stream)));
}

void SessionSide::Attach(std::shared_ptr<SimulatedLanes> lanes) {
  lanes->Attach(end_, &process_->state,
                [self = shared_from_this()](absl::Status down) {
                  self->End(std::move(down));
                });
  auto link = std::make_shared<SimulatedLink>(
      lanes, end_, &process_->loop,
      [this](const char* what) { world_->Fail(what); });
  lanes_ = std::move(lanes);
  core_->Attach(link);
  if (link->ended()) lanes_ = nullptr;  // they came too late
}

void SessionSide::Close(absl::Duration drain) {
  world_->Trace(id_, end_ == kCaller ? " caller" : " callee", " closes within ",
                absl::FormatDuration(drain));
  ++closes_;
  core_->Close(drain, [this](absl::StatusOr<SessionReport>) { --closes_; });
}

void SessionSide::DropHandle() {
  world_->Trace(id_, end_ == kCaller ? " caller" : " callee", " is dropped");
  handle_ = nullptr;
}

void SessionSide::Call(absl::Duration timeout) {
  ++calls_;
  core_->Call({}, {.timeout = timeout},
              [this](absl::StatusOr<Received>) { --calls_; });
}

void SessionSide::Hear(const char* what) {
  world_->Trace(id_, end_ == kCaller ? " caller" : " callee", " hears ", what);
  if (stream_ends_ > 0) world_->Fail("a control stream spoke after its end");
}

void SessionSide::CheckSays(const absl::Status* goodbye) {
  if (goodbye == nullptr && finished()) {
    world_->Fail("a session drains after its end");
  }
  if (goodbye != nullptr && goodbye->ok() && world_->calm() && calls_ > 0) {
    world_->Fail("a goodbye while a call waits for its reply");
  }
}

void SessionSide::Told(absl::StatusOr<std::shared_ptr<Session>> opened) {
  world_->Trace(id_, end_ == kCaller ? " caller" : " callee",
                " open: ", opened.status().ToString());
  if (finished()) world_->Fail("a session told of its opening after its end");
  if (++told_ > 1) world_->Fail("a session told twice whether it opened");
  if (!opened.ok()) return world_->OnRefused(opened.status());
  handle_ = *std::move(opened);
  lanes_->Start(end_);
  if (end_ == kCallee) stream_->SendOpened();
  world_->OnOpen(shared_from_this());
}

void SessionSide::Finished() {
  if (++finished_ > 1) world_->Fail("a session ended twice");
  if (told_ != 1) world_->Fail("a session ended and never told of its opening");
  if (lanes_ == nullptr) return;
  if (!lanes_->closed(end_)) world_->Fail("a session outlived by its lanes");
  lanes_->CheckEnded(end_);
  world_->report().sent_ok += lanes_->report(end_).sent_ok;
  world_->report().sent_failed += lanes_->report(end_).sent_failed;
  lanes_ = nullptr;
}

// After the operations' callbacks, which came before it on the executor.
void SessionSide::Reported(const SessionReport& report) {
  world_->Trace(id_, end_ == kCaller ? " caller" : " callee",
                " ended: ", report.why.ToString());
  if (++reported_ > 1) world_->Fail("a session told twice that it ended");
  if (!finished()) world_->Fail("a session told that it ended, and goes on");
  if (calls_ > 0) world_->Fail("a session outlived by a call");
  handle_ = nullptr;
  report.why.ok() ? ++world_->report().drained : ++world_->report().broken;
  if (world_->calm() && !report.why.ok() && !MayRefuse(report.why)) {
    world_->Fail(absl::StrCat("ended though nothing was wrong: ",
                              report.why.ToString()));
  }
}

void SessionSide::CheckForgotten() {
  if (!finished()) {
    return world_->Fail(absl::StrCat(
        id_, end_ == kCaller ? " caller" : " callee", " never ended"));
  }
  if (reported_ != 1) world_->Fail("a session ended and told nobody");
  if (closes_ > 0) world_->Fail("a Close was never answered");
  if (stream_ != nullptr && stream_ends_ != 1) {
    world_->Fail("a control stream that never told its end");
  }
}

// ---- connections of lanes

absl::StatusOr<LaneTicket> World::Expect(
    const std::string& id, const std::shared_ptr<SessionSide>& callee) {
  SimulatedLanes::Network network{
      .queue = &queue_,
      .draw = [this](uint64_t below) { return Draw(below); },
      .delay = [this] { return Delay(); },
      .fail = [this](const std::string& what) { Fail(what); }};
  auto lanes = std::make_shared<SimulatedLanes>(std::move(network), calm_);
  lanes->Cut(cut_);
  lanes_.push_back(lanes);
  std::string key(16, '\0');
  for (char& byte : key) byte = static_cast<char>(Draw(256));
  expected_[id] = {callee, lanes, key};
  callee->Attach(std::move(lanes));
  queue_.In(kTicketLifetime, &callee->process()->state, [this, id] {
    auto expected = expected_.find(id);
    if (expected == expected_.end()) return;
    auto callee = expected->second.callee;
    expected_.erase(expected);
    callee->End(absl::DeadlineExceededError("nobody took the ticket"));
  });
  return LaneTicket{id, {"tcp://127.0.0.1:1"}, key};
}

void World::Dial(const std::shared_ptr<SessionSide>& caller, LaneTicket ticket,
                 bool intruder) {
  Process* there = &machine(kCallee);
  auto dial = std::make_shared<Dialed>(Dialed{
      caller, there, ticket.session_id, intruder,
      ClientHandshake({ticket.session_id, ticket.session_key}, Wire::kTcp,
                      /*number=*/0, DrawNonce()),
      ServerHandshake(
          Wire::kTcp,
          [this](const std::string& id) -> std::variant<std::string, Refusal> {
            auto expected = expected_.find(id);
            if (expected == expected_.end()) return Refusal::kSession;
            return expected->second.key;
          },
          [](const std::string&, uint64_t) { return Refusal::kNone; })});
  // Made again now and then, as if the first were lost: one ticket, one
  // connection.
  if (Chance(8)) {
    queue_.In(Delay(), nullptr, [=, this] { Dial(caller, ticket, intruder); });
  }
  // And one who knows all but the key.
  if (!intruder && Chance(8)) {
    ticket.session_key[Draw(16)] ^= static_cast<char>(1 << Draw(8));
    Dial(caller, ticket, true);
  }
  Exchange(dial, kCaller);
}

// Bytes of the handshake, as many at a time as the network likes, until either
// end is done or has refused; the last end to be done is the caller's.
void World::Exchange(const std::shared_ptr<Dialed>& dial, int from) {
  Handshake& sender =
      from == kCaller ? static_cast<Handshake&>(dial->client) : dial->server;
  Handshake& receiver =
      from == kCaller ? static_cast<Handshake&>(dial->server) : dial->client;
  Process* there = from == kCaller ? dial->callee : dial->caller->process();
  if (sender.output().empty()) return;
  const size_t some =
      std::min<size_t>({sender.output().size(), receiver.wanted(),
                        Chance(4) ? 1 + Draw(100) : sender.output().size()});
  std::string bytes(reinterpret_cast<const char*>(sender.output().data()),
                    some);
  sender.Sent(some);
  queue_.In(Delay(), &there->state, [=, this, &receiver] {
    if (cut_ || there->dead) return;  // deadlines tell
    dial->received += bytes.size();
    if (dial->received > kMostBeforeProof) Fail("a long handshake");
    absl::Status received = receiver.Receive(
        {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    if (!received.ok()) return;
    if (from == kCaller && receiver.proved()) CallerProved(dial);
    if (from == kCallee && receiver.proved()) return CalleeProved(dial);
    Exchange(dial, from);
    Exchange(dial, 1 - from);
  });
}

void World::CallerProved(const std::shared_ptr<Dialed>& dial) {
  auto expected = expected_.find(dial->session_id);
  if (expected == expected_.end()) return;  // another connection's by now
  if (dial->intruder) return Fail("lanes for one who has not the key");
  dial->lanes = expected->second.lanes;
  auto callee = expected->second.callee;
  expected_.erase(expected);
  callee->CalleeReady();
}

void World::CalleeProved(const std::shared_ptr<Dialed>& dial) {
  if (dial->intruder) return Fail("a callee for one who has not the key");
  if (dial->lanes == nullptr) return;  // the ticket was another connection's
  if (dial->lanes->attached(kCaller)) {
    return Fail("one ticket for two connections");
  }
  dial->caller->Attach(dial->lanes);
}

Nonce World::DrawNonce() {
  Nonce nonce;
  for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(Draw(256));
  return nonce;
}

// ---- users

void World::Connect() {
  if (over_) return;
  Process* client = &machine(kCaller);
  Process* server = &machine(kCallee);
  auto side = std::make_shared<SessionSide>(this, client, kCaller);
  Remember(side);
  const absl::Duration timeout =
      calm_ ? absl::Seconds(30)
            : absl::Seconds(1) + DrawTime(kLongestOpening - absl::Seconds(1));
  side->OpenBefore(queue_.Now() + timeout);

  Offer offer;
  // Another process than the one that serves there.
  const bool wrong_epoch = Chance(8);
  if (wrong_epoch || Chance(3)) {
    offer.expected_epoch = server->epoch + (wrong_epoch ? 1 : 0);
  }
  auto shared = std::make_shared<ClientShared>();
  shared->address = "machine:1";
  shared->options = {.heartbeat = heartbeat_, .lease = lease_};
  shared->loop = &client->loop;
  clients_.push_back(shared);

  auto call = std::make_shared<SimulatedCall>(
      CallNetwork{.queue = &queue_,
                  .delay = [this] { return Delay(); },
                  .client = &client->state,
                  .server = &server->state});
  call->OnArrival(
      [this, server,
       call = call.get()]() -> std::shared_ptr<SimulatedCall::ServerReactor> {
        if (server->dead || !server->service->AddStream(Anybody()).ok()) {
          return nullptr;
        }
        auto callee =
            std::make_shared<SimulatedCallee>(call, server->service.get());
        callee->Start();
        return callee;
      });
  call->Cut(cut_);
  calls_.push_back({call, client, server});

  auto done = [this, side,
               wrong_epoch](absl::StatusOr<ControlClient::Accepted> accepted) {
    if (!accepted.ok()) {
      if (wrong_epoch == absl::IsFailedPrecondition(accepted.status()) ||
          !calm_) {
        return side->End(accepted.status());
      }
      return Fail(absl::StrCat("refused: ", accepted.status().ToString()));
    }
    if (wrong_epoch) Fail("a session with another epoch than was expected");
    PeerId callee = accepted->plan.callee;
    if (side->Begin(accepted->ticket.session_id, std::move(accepted->plan),
                    std::move(callee), std::move(accepted->stream))) {
      Dial(side, accepted->ticket);
    }
  };
  auto caller = std::make_shared<SimulatedCaller>(
      call, shared, offer, client->GetCapabilities(), side, std::move(done));
  // As the client does whose stream it is, at its end.
  side->KeepUntilEnded(std::shared_ptr<void>(
      nullptr, [client, weak = std::weak_ptr<SimulatedCaller>(caller)](void*) {
        client->loop.Post([weak] {
          if (auto caller = weak.lock()) {
            caller->Cut(
                absl::CancelledError("the control client was destroyed"));
          }
        });
      }));
  caller->Start(timeout);
}

void World::OnOpen(const std::shared_ptr<SessionSide>& side) {
  ++report_.opened;
  if (Chance(3)) side->Call(DrawTime(absl::Seconds(9)));
  const bool closes = side->end() == kCaller ? !Chance(4) : Chance(4);
  if (!closes) return;
  const bool drops = !calm_ && Chance(3);
  const absl::Duration drain = calm_ ? kCalmDrain : DrawTime(absl::Seconds(6));
  queue_.In(DrawTime(Chance(4) ? absl::Milliseconds(50) : absl::Seconds(8)),
            &side->process()->state, [side, drops, drain] {
              drops ? side->DropHandle() : side->Close(drain);
            });
}

void World::OnRefused(const absl::Status& why) {
  ++report_.refused;
  if (calm_ && !MayRefuse(why)) {
    Fail(absl::StrCat("not open though nothing was wrong: ", why.ToString()));
  }
}

// ---- trouble

void World::DrawFaults() {
  const int faults = 1 + static_cast<int>(Draw(3));
  for (int i = 0; i < faults; ++i) {
    queue_.In(DrawTime(absl::Seconds(15)), nullptr, [this] {
      switch (Draw(8)) {
        case 0:
          return BreakCall();
        case 1:
          return BreakLanes();
        case 2:
        case 3:
          return Stop(static_cast<int>(Draw(2)),
                      Chance(2) ? DrawTime(absl::Seconds(3))
                                : DrawTime(absl::Seconds(60)));
        case 4:
          return Crash(static_cast<int>(Draw(2)), Chance(2));
        case 5:
          return Leave();
        case 6:
          return CloseSession();
        default:
          ++report_.cuts;
          SetCut(true);
          queue_.In(Chance(2) ? DrawTime(absl::Seconds(4))
                              : DrawTime(absl::Seconds(60)),
                    nullptr, [this] { SetCut(false); });
      }
    });
  }
}

void World::BreakCall() {
  if (calls_.empty()) return;
  auto call = calls_[Draw(calls_.size())].call;
  ++report_.breaks;
  Trace("a control connection breaks");
  queue_.In(Delay(), nullptr, [call] {
    call->BreakClient({grpc::StatusCode::UNAVAILABLE, "connection reset"});
  });
  queue_.In(Delay(), nullptr, [call] { call->BreakServer(); });
}

void World::BreakLanes() {
  if (lanes_.empty()) return;
  ++report_.breaks;
  Trace("lanes break");
  lanes_[Draw(lanes_.size())]->Break();
}

void World::Stop(int which, absl::Duration time) {
  Process* process = &machine(which);
  if (process->state.stopped) return;
  ++report_.stops;
  Trace("machine ", which, " stands still for ", absl::FormatDuration(time));
  process->state.stopped = true;
  FallSilent(which);
  queue_.In(time, nullptr, [this, process, which] {
    if (!process->state.stopped) return;
    Trace("machine ", which, " goes on");
    ++heals_[which];
    queue_.Resume(&process->state);
    for (auto& lanes : lanes_) lanes->Wake();
  });
}

// What the process still does is its objects' end, and stays within it.
void World::Crash(int which, bool silent) {
  Process* process = &machine(which);
  ++report_.crashes;
  Trace("machine ", which, " crashes", silent ? " and nobody is told" : "");
  process->dead = true;
  if (process->state.stopped) queue_.Resume(&process->state);
  for (Call& call : calls_) {
    if (call.client == process) {
      call.call->MuteClient();
      call.call->BreakClient({grpc::StatusCode::UNAVAILABLE, "dead"});
      if (!silent) {
        queue_.In(Delay(), nullptr,
                  [call = call.call] { call->BreakServer(); });
      }
    } else if (call.server == process) {
      call.call->MuteServer();
      call.call->BreakServer();
      if (!silent) {
        queue_.In(Delay(), nullptr, [call = call.call] {
          call->BreakClient({grpc::StatusCode::UNAVAILABLE, "reset"});
        });
      }
    }
  }
  for (const auto& side : std::vector(sides_)) {
    if (side->process() != process) continue;
    if (side->lanes() != nullptr && silent) side->lanes()->Cut(true);
    side->End(absl::UnavailableError("the process is dead"));
  }
  for (auto expected = expected_.begin(); expected != expected_.end();) {
    const bool gone = expected->second.callee->process() == process;
    expected = gone ? expected_.erase(expected) : std::next(expected);
  }
  ++heals_[which];  // what stopped it before is over
  FallSilent(which);
  StartProcess(which);
}

// What the service does before an orderly end of its process.
void World::Leave() {
  Process* process = &machine(kCallee);
  Trace("the callee leaves");
  process->service->stopping = true;
  process->loop.Post([service = process->service.get()] {
    service->shutdown = absl::UnavailableError("the callee leaves");
    for (CalleeSide* side : std::set(service->sides)) {
      side->End(*service->shutdown, true);
    }
  });
  queue_.In(DrawTime(absl::Seconds(3)), nullptr, [this, process] {
    if (!process->dead) Crash(kCallee, false);
  });
}

// As an operator asks the service for it.
void World::CloseSession() {
  Process* process = &machine(kCallee);
  process->loop.Post([this, service = process->service.get()] {
    if (service->by_id.empty()) return;
    Trace(service->by_id.begin()->first, " is closed by the service");
    service->by_id.begin()->second->End(absl::CancelledError("CloseSession"),
                                        true);
  });
}

void World::SetCut(bool cut) {
  if (cut_ == cut) return;
  Trace(cut ? "the network is cut" : "the network is whole again");
  cut_ = cut;
  for (Call& call : calls_) call.call->Cut(cut);
  for (const auto& lanes : lanes_) lanes->Cut(cut);
  for (int which : {kCaller, kCallee}) {
    if (cut)
      FallSilent(which);
    else
      ++heals_[which];
  }
}

// What opens has its own time, and an end that began just before has its
// linger.
absl::Duration World::SilenceBound() const {
  return std::max(lease_, kLongestOpening) + kLinger + kLastWords +
         absl::Seconds(1);
}

// From now on the other machine hears nothing of this one. If that lasts, and
// the other one runs, its sessions of now end.
void World::FallSilent(int which) {
  const int other = 1 - which;
  Process* process = &machine(other);
  const int heals = heals_[which], own_heals = heals_[other];
  std::vector<std::shared_ptr<SessionSide>> sides;
  for (const auto& side : sides_) {
    if (side->process() == process && !side->finished()) sides.push_back(side);
  }
  queue_.In(SilenceBound(), nullptr, [=, this] {
    if (heals_[which] != heals || process->state.stopped || process->dead ||
        heals_[other] != own_heals) {
      return;
    }
    for (const auto& side : sides) {
      if (side->finished()) continue;
      Fail(absl::StrCat(side->id(), " lives on with a silent peer"));
    }
  });
}

// ---- from the first process to the last end

void World::StartProcess(int which) {
  auto process = std::make_unique<Process>(this, which, 1000 + ++ids_);
  if (which == kCallee) {
    ControlServiceOptions options{.heartbeat = heartbeat_,
                                  .lease = lease_,
                                  .max_sessions = max_sessions_,
                                  .clock = &queue_,
                                  .access = Access::Everybody()};
    process->service = std::make_unique<ServiceShared>(
        process.get(), options, &process->loop, [this] { return NewId(); });
    process->loop.Post([raw = process.get()] { raw->service->Sweep(); });
  }
  machines_[which] = processes_.size();
  processes_.push_back(std::move(process));
}

void World::EndAll() {
  over_ = true;
  SetCut(false);
  for (const auto& process : processes_) {
    if (!process->state.stopped) continue;
    queue_.Resume(&process->state);
    ++heals_[process->machine];
  }
  for (const auto& lanes : lanes_) lanes->Wake();
  for (const auto& side : std::vector(sides_)) {
    if (!side->finished()) side->Close(calm_ ? kCalmDrain : absl::Seconds(5));
  }
}

void World::CheckNothingLeft() {
  for (const auto& side : sides_) side->CheckForgotten();
  for (const auto& client : clients_) {
    if (!client.expired()) Fail("a client is left");
  }
  for (const Call& call : calls_) {
    if (!call.call->over()) Fail("a call is left");
  }
  if (!expected_.empty()) Fail("a ticket is left");
  for (const auto& process : processes_) {
    const int timers = process->loop.timers();
    const int own = process->service != nullptr ? 1 : 0;  // the sweep
    if (timers != own) Fail(absl::StrCat(timers - own, " timers are left"));
    if (process->service == nullptr) continue;
    if (!process->service->table.List().empty()) Fail("an entry is left");
    if (!process->service->by_id.empty()) Fail("a session's stream is left");
    if (!process->service->sides.empty()) Fail("a stream is left");
  }
}

WorldReport World::Run() {
  calm_ = Chance(4);
  lease_ = Chance(2) ? absl::Seconds(15)
                     : absl::Seconds(1) + DrawTime(absl::Seconds(5));
  heartbeat_ = lease_ / static_cast<int64_t>(3 + Draw(2));
  max_sessions_ = 1 + static_cast<int>(Draw(3));
  StartProcess(kCaller);
  StartProcess(kCallee);
  const int sessions = 1 + static_cast<int>(Draw(3));
  for (int i = 0; i < sessions; ++i) {
    queue_.In(DrawTime(absl::Seconds(5)), nullptr,
              [this] { machine(kCaller).loop.Post([this] { Connect(); }); });
  }
  if (!calm_) DrawFaults();
  const absl::Time end = absl::UnixEpoch() + absl::Seconds(calm_ ? 20 : 40);
  auto run_until = [this](absl::Time until) {
    while (report_.failure.empty() && queue_.RunNext(until)) {
      for (const auto& process : processes_) {
        if (process->service != nullptr &&
            process->service->by_id.size() >
                static_cast<size_t>(max_sessions_)) {
          Fail("more sessions than max_sessions");
        }
      }
    }
  };
  run_until(end);
  Trace("all are told to end");
  EndAll();
  run_until(end + SilenceBound() + absl::Seconds(calm_ ? 90 : 30));
  if (report_.failure.empty()) CheckNothingLeft();
  return report_;
}

}  // namespace

WorldReport RunWorld(absl::AnyInvocable<uint64_t()> draw, bool trace) {
  return World(std::move(draw), trace).Run();
}

WorldReport RunWorld(uint64_t seed, bool trace) {
  return RunWorld(
      [random = std::mt19937_64(seed)]() mutable { return random(); }, trace);
}

}  // namespace simulation
}  // namespace tensorferry
