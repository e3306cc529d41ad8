// The service and the client against each other, over real gRPC.
#include "control/control_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/loop.h"
#include "control/access.h"
#include "control/authorizer.h"
#include "control/control_client.h"
#include "control/lease.h"
#include "control/security.h"
#include "tests/control/raw_peer.h"
#include "tests/control/stalled_caller.h"
#include "tests/control/test_peers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kTimeout = absl::Seconds(30);

std::unique_ptr<ControlClient> Connect(const std::string& address,
                                       ControlClientOptions options = {}) {
  auto client = ControlClient::Create(address, options);
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

absl::StatusOr<ControlClient::Accepted> Open(
    ControlClient& client, const Offer& offer,
    std::shared_ptr<HeardEvents> events,
    const Capabilities& caller = PeerWith("alice", {})) {
  return Await<ControlClient::Accepted>(
      [&](Done<ControlClient::Accepted> done) {
        client.OpenSession(offer, caller, std::move(events), kTimeout,
                           std::move(done));
      });
}

absl::StatusOr<std::vector<SessionRecord>> List(ControlClient& client) {
  return Await<std::vector<SessionRecord>>(
      [&](Done<std::vector<SessionRecord>> done) {
        client.ListSessions(kTimeout, std::move(done));
      });
}

absl::Status Close(ControlClient& client, const std::string& id) {
  absl::Status status;
  absl::Notification closed;
  client.CloseSession(id, kTimeout, [&](absl::Status got) {
    status = std::move(got);
    closed.Notify();
  });
  closed.WaitForNotification();
  return status;
}

// A caller's end of a session and the callee's.
struct Session {
  Session(ControlClient& client, FakeHost& host) {
    events = std::make_shared<HeardEvents>();
    auto opened = Open(client, Offer(), events);
    EXPECT_THAT(opened, IsOk());
    if (!opened.ok()) std::abort();
    caller = *std::move(opened);
    callee = host.Of(caller.ticket.session_id);
  }
  ControlClient::Accepted caller;
  std::shared_ptr<HeardEvents> events;
  FakeHost::Session callee;
};

class ControlServiceTest : public ::testing::Test {
 protected:
  FakeHost host_{PeerWith("bob", {"cuda:0"})};
  TestServer server_{&host_};
  std::unique_ptr<ControlClient> client_ = Connect(server_.address());
};

TEST_F(ControlServiceTest, TellsCapabilities) {
  auto capabilities = Await<Capabilities>([&](Done<Capabilities> done) {
    client_->GetCapabilities(kTimeout, std::move(done));
  });
  ASSERT_THAT(capabilities, IsOk());
  EXPECT_EQ(capabilities->peer.name, "bob");
  EXPECT_THAT(capabilities->devices, SizeIs(2));
  EXPECT_EQ(capabilities->paths, host_.GetCapabilities().paths);
}

TEST_F(ControlServiceTest, AnswersThatACallerDoesNotTakeAreBounded) {
  TestServer server(&host_, {.answer_bytes = 8 << 10});
  const auto client = Connect(server.address());
  const auto ask = [&] {
    return Await<Capabilities>([&](Done<Capabilities> done) {
             client->GetCapabilities(kTimeout, std::move(done));
           })
        .status();
  };
  for (int i = 0; i < 100; ++i) ASSERT_THAT(ask(), IsOk());
  {
    StalledCaller stalled(server.address());
    for (int i = 0; i < 100; ++i) {
      stalled.Call("/tensorferry.control.v1.Control/GetCapabilities");
    }
    absl::Status status = ask();
    while (status.ok()) status = ask();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                                 HasSubstr("callers have not taken")));
  }
  while (!ask().ok()) continue;  // once it is gone
}

TEST_F(ControlServiceTest, ExplainsWithoutOpening) {
  auto explanation = Await<Explanation>([&](Done<Explanation> done) {
    client_->Explain(OfferOf({"cpu=cuda:0", "name:x=cuda:9"}),
                     PeerWith("alice", {}), kTimeout, std::move(done));
  });
  ASSERT_THAT(explanation, IsOk());
  EXPECT_EQ(explanation->plan.callee.name, "bob");
  ASSERT_FALSE(explanation->objections.empty());
  EXPECT_THAT(explanation->objections[0],
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("callee \"bob\" has no target cuda:9")));
  EXPECT_EQ(host_.admitted(), 0);
}

TEST_F(ControlServiceTest, OpensASessionWithOnePlanOnBothSides) {
  Session session(*client_, host_);
  EXPECT_EQ(Digest(session.caller.plan), Digest(session.callee.plan));
  EXPECT_EQ(session.caller.plan.caller.name, "alice");
  EXPECT_EQ(session.caller.ticket.session_key, std::string(16, 'k'));
  EXPECT_THAT(session.caller.ticket.data_addresses,
              ::testing::ElementsAre("tcp://127.0.0.1:1"));

  auto sessions = List(*client_);
  ASSERT_THAT(sessions, IsOkAndHolds(SizeIs(1)));
  const SessionRecord& record = sessions->front();
  EXPECT_EQ(record.id, session.caller.ticket.session_id);
  EXPECT_EQ(record.state, SessionState::kOpening);
  EXPECT_EQ(Digest(record.plan), Digest(session.caller.plan));
  EXPECT_EQ(record.bytes_sent, 11u);
  EXPECT_EQ(record.bytes_received, 22u);

  session.callee.stream->SendOpened();
  session.events->AwaitOpened();
  EXPECT_EQ(List(*client_)->front().state, SessionState::kOpen);
}

TEST_F(ControlServiceTest, RefusalCarriesEveryObjectionHoweverLong) {
  std::vector<std::string> rules;
  for (int i = 0; i < 60; ++i) {
    rules.push_back("name:" + std::string(400, 'x') + std::to_string(i) +
                    "=cuda:" + std::to_string(i + 1));
  }
  auto events = std::make_shared<HeardEvents>();
  Offer offer = OfferOf(rules);
  offer.to_caller = Placement();
  auto refused = Open(*client_, offer, events);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument,
                                AllOf(HasSubstr("no target cuda:1;"),
                                      HasSubstr("no target cuda:60;"))));
  EXPECT_FALSE(events->ended());
  EXPECT_THAT(List(*client_), IsOkAndHolds(IsEmpty()));
}

TEST_F(ControlServiceTest, RestartedPeerIsToldApartByBothEpochs) {
  Offer offer;
  offer.expected_epoch = 5;
  EXPECT_THAT(Open(*client_, offer, std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("epoch 5,"), HasSubstr("epoch 1003"))));
}

TEST_F(ControlServiceTest, GoodbyeOfTheCallerEndsBothSidesWithItsStatus) {
  for (const absl::Status& why :
       {absl::OkStatus(), absl::DataLossError("digest differs")}) {
    Session session(*client_, host_);
    session.caller.stream->SendGoodbye(why);
    session.caller.stream->SendGoodbye(absl::InternalError("too late"));
    EXPECT_EQ(session.events->AwaitEnd(), why);
    EXPECT_EQ(session.callee.events->AwaitEnd(), why);
    EXPECT_THAT(List(*client_), IsOkAndHolds(IsEmpty()));
  }
}

TEST_F(ControlServiceTest, GoodbyeOfTheCalleeEndsBothSidesWithItsStatus) {
  for (const absl::Status& why :
       {absl::OkStatus(), absl::ResourceExhaustedError("quota")}) {
    Session session(*client_, host_);
    session.callee.stream->SendGoodbye(why);
    EXPECT_EQ(session.events->AwaitEnd(), why);
    EXPECT_EQ(session.callee.events->AwaitEnd(), why);
  }
}

TEST_F(ControlServiceTest, DrainIsAskedInBothDirections) {
  Session session(*client_, host_);
  session.caller.stream->SendDrain();
  session.callee.events->AwaitDrain();
  EXPECT_EQ(List(*client_)->front().state, SessionState::kDraining);
  session.callee.stream->SendDrain();
  session.events->AwaitDrain();
}

TEST_F(ControlServiceTest, WhatACallbackThrowsIsDropped) {
  absl::Notification told;
  client_->GetCapabilities(kTimeout, [&](absl::StatusOr<Capabilities>) {
    told.Notify();
    throw std::runtime_error("a user's mistake");
  });
  told.WaitForNotification();
  EXPECT_THAT(List(*client_), IsOkAndHolds(IsEmpty()));
}

// Throws at each drain and at the end.
class ThrowingEvents : public HeardEvents {
 public:
  void OnDrain() override {
    HeardEvents::OnDrain();
    throw std::runtime_error("a user's mistake");
  }
  void OnStreamEnded(absl::Status why) override {
    HeardEvents::OnStreamEnded(std::move(why));
    throw std::runtime_error("nobody hears this");
  }
};

TEST_F(ControlServiceTest, EventsThatThrowEndTheirSessionAlone) {
  Session neighbour(*client_, host_);
  auto events = std::make_shared<ThrowingEvents>();
  auto opened = Open(*client_, Offer(), events);
  ASSERT_THAT(opened, IsOk());
  FakeHost::Session callee = host_.Of(opened->ticket.session_id);
  callee.stream->SendDrain();
  const auto told = StatusIs(absl::StatusCode::kInternal,
                             HasSubstr("threw: a user's mistake"));
  EXPECT_THAT(callee.events->AwaitEnd(), told);
  EXPECT_THAT(events->AwaitEnd(), told);
  neighbour.caller.stream->SendGoodbye(absl::OkStatus());
  EXPECT_THAT(neighbour.callee.events->AwaitEnd(), IsOk());
}

TEST_F(ControlServiceTest, ACallbackOfOpenSessionThatThrowsEndsTheSession) {
  auto events = std::make_shared<HeardEvents>();
  std::string id;
  absl::Notification told;
  client_->OpenSession(Offer(), PeerWith("alice", {}), events, kTimeout,
                       [&](absl::StatusOr<ControlClient::Accepted> accepted) {
                         if (accepted.ok()) id = accepted->ticket.session_id;
                         told.Notify();
                         throw std::runtime_error("a user's mistake");
                       });
  told.WaitForNotification();
  const auto why = StatusIs(absl::StatusCode::kInternal,
                            HasSubstr("threw: a user's mistake"));
  EXPECT_THAT(events->AwaitEnd(), why);
  EXPECT_THAT(host_.Of(id).events->AwaitEnd(), why);
}

TEST_F(ControlServiceTest, CloseSessionEndsBothSides) {
  Session session(*client_, host_);
  Session other(*client_, host_);
  const std::string& id = session.caller.ticket.session_id;
  EXPECT_THAT(Close(*client_, id), IsOk());
  EXPECT_THAT(session.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr(id)));
  EXPECT_THAT(session.callee.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr(id)));
  EXPECT_THAT(Close(*client_, id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(List(*client_), IsOkAndHolds(SizeIs(1)));
  EXPECT_FALSE(other.events->ended());
}

// Its link is closing with the right status before ours breaks its lanes.
TEST_F(ControlServiceTest, WhoIsToldGoodbyeEndsBeforeWhoSaysIt) {
  for (int i = 0; i < 20; ++i) {
    Session session(*client_, host_);
    session.caller.stream->SendGoodbye(absl::OkStatus());
    EXPECT_THAT(session.events->AwaitEnd(), IsOk());
    EXPECT_TRUE(session.callee.events->ended());
  }
  for (int i = 0; i < 20; ++i) {
    Session session(*client_, host_);
    session.callee.stream->SendGoodbye(absl::OkStatus());
    EXPECT_THAT(session.callee.events->AwaitEnd(), IsOk());
    EXPECT_TRUE(session.events->ended());
  }
}

TEST_F(ControlServiceTest, ShutdownSaysGoodbyeToAll) {
  Session one(*client_, host_), other(*client_, host_);
  server_.control().Shutdown(absl::UnavailableError("going to bed"));
  for (const Session* session : {&one, &other}) {
    EXPECT_EQ(session->events->AwaitEnd(),
              absl::UnavailableError("going to bed"));
    EXPECT_EQ(session->callee.events->AwaitEnd(),
              absl::UnavailableError("going to bed"));
  }
}

TEST_F(ControlServiceTest, DeadServerIsUnavailable) {
  Session session(*client_, host_);
  server_.Kill();
  EXPECT_THAT(session.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(session.callee.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(List(*client_), StatusIs(absl::StatusCode::kUnavailable,
                                       HasSubstr(server_.address())));
}

TEST_F(ControlServiceTest, DestroyedClientEndsItsSessions) {
  Session session(*client_, host_);
  client_.reset();
  EXPECT_TRUE(session.events->ended());  // when the destructor returns
  EXPECT_THAT(session.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(session.callee.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable));
  // Still safe to call.
  session.caller.stream->SendDrain();
  session.caller.stream->SendGoodbye(absl::OkStatus());
}

TEST_F(ControlServiceTest, ManySessionsOpenAndEndAtOnce) {
  constexpr int kThreads = 4, kEach = 25;
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        Session session(*client_, host_);
        session.callee.stream->SendOpened();
        session.events->AwaitOpened();
        auto& stream =
            (i + t) % 2 == 0 ? session.caller.stream : session.callee.stream;
        stream->SendGoodbye(absl::OkStatus());
        if (session.events->AwaitEnd().ok() &&
            session.callee.events->AwaitEnd().ok()) {
          ++good;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, kThreads * kEach);
  EXPECT_THAT(server_.control().sessions().List(), IsEmpty());
}

TEST(ControlServiceHostTest, HostThatRefusesLeavesNoSession) {
  FakeHost host(PeerWith("bob", {}));
  host.open_at_once = true;  // goes nowhere
  host.admit_status = absl::PermissionDeniedError("not you");
  TestServer server(&host);
  auto client = Connect(server.address());
  auto events = std::make_shared<HeardEvents>();
  EXPECT_THAT(Open(*client, Offer(), events),
              StatusIs(absl::StatusCode::kPermissionDenied, "not you"));
  EXPECT_FALSE(events->ended());
  EXPECT_THAT(server.control().sessions().List(), IsEmpty());
}

TEST(ControlServiceHostTest, OpenedFromWithinAdmitFollowsTheAcceptance) {
  FakeHost host(PeerWith("bob", {}));
  host.open_at_once = true;
  TestServer server(&host);
  auto client = Connect(server.address());
  Session session(*client, host);
  session.events->AwaitOpened();
}

TEST(ControlServiceHostTest, GoodbyeFromWithinAdmitIsARefusal) {
  FakeHost host(PeerWith("bob", {}));
  host.goodbye_at_once = true;
  TestServer server(&host);
  auto client = Connect(server.address());
  auto events = std::make_shared<HeardEvents>();
  EXPECT_THAT(Open(*client, Offer(), events),
              StatusIs(absl::StatusCode::kAborted, "not today"));
  EXPECT_FALSE(events->ended());
  auto list = server.control().sessions().List();
  EXPECT_THAT(list, IsEmpty());
}

// Gives each identity what it is told, once or always.
class Book : public Authorizer {
 public:
  Grants GrantsOf(const Identity& identity) const override {
    absl::MutexLock lock(&mu_);
    const auto found = grants_.find(ToString(identity));
    if (found == grants_.end()) return {};
    Grants grants = found->second;
    if (once_) grants_.erase(found);
    return grants;
  }
  void Give(const std::string& identity, Grants grants) {
    absl::MutexLock lock(&mu_);
    grants_[identity] = std::move(grants);
  }
  void GiveOnce() {
    absl::MutexLock lock(&mu_);
    once_ = true;
  }

 private:
  mutable absl::Mutex mu_;
  mutable std::map<std::string, Grants> grants_ ABSL_GUARDED_BY(mu_);
  bool once_ ABSL_GUARDED_BY(mu_) = false;
};

Grants Sessions(int sessions) {
  Grants grants;
  grants.sessions = sessions;
  grants.all_devices = true;
  return grants;
}

// A service that knows Alice and Bob by their tokens.
class AccessTest : public ::testing::Test, protected testing::TestFolder {
 protected:
  AccessTest() {
    // sha256sum of "alice-token" and of "bob-token".
    Write("tokens",
          "alice "
          "9c220f200955d76c0a38d308225e0ef10c5f971acaf2f8d1d8f732affa5bd1dc\n"
          "bob "
          "97dd3707015dcf069cf73022ed7173b1165db6eff24b441cb57fd069a8c4e525\n");
    Write("alice", "alice-token");
    Write("bob", "bob-token");
    ServerSecurity security;
    security.token_file = Path("tokens");
    security.authorizer = book_;
    auto access = Access::Create(security);
    EXPECT_THAT(access, IsOk());
    ControlServiceOptions options;
    options.lease = kLongestLease;
    options.access = *std::move(access);
    server_ = std::make_unique<TestServer>(&host_, options);
    alice_ = ClientOf("alice");
    bob_ = ClientOf("bob");
  }
  ~AccessTest() override {
    alice_.reset();
    bob_.reset();
    server_.reset();
  }

  std::unique_ptr<ControlClient> ClientOf(const std::string& name) {
    ControlClientOptions options;
    options.security.token_file = Path(name);
    return Connect(server_->address(), options);
  }

  const std::shared_ptr<Book> book_ = std::make_shared<Book>();
  FakeHost host_{PeerWith("host", {})};
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<ControlClient> alice_, bob_;
};

TEST_F(AccessTest, OnlyItsOwnerAndAdministratorsListAndCloseASession) {
  book_->Give("token:alice", Sessions(2));
  book_->Give("token:bob", Sessions(2));
  Session alices(*alice_, host_), bobs(*bob_, host_);
  const std::string& id = alices.caller.ticket.session_id;
  auto listed = List(*bob_);
  ASSERT_THAT(listed, IsOkAndHolds(SizeIs(1)));
  EXPECT_EQ(listed->front().id, bobs.caller.ticket.session_id);
  // As if there were none.
  EXPECT_THAT(Close(*bob_, id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(alices.events->ended());

  Grants administrator;
  administrator.administer = true;
  book_->Give("token:bob", administrator);
  EXPECT_THAT(List(*bob_), IsOkAndHolds(SizeIs(2)));
  EXPECT_THAT(Close(*bob_, id), IsOk());
  EXPECT_THAT(alices.events->AwaitEnd(),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr(id)));
  EXPECT_FALSE(bobs.events->ended());
  EXPECT_THAT(Close(*alice_, bobs.caller.ticket.session_id),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AccessTest, WhoMayHaveNoSessionsListsAndClosesNone) {
  EXPECT_THAT(List(*bob_), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("token:bob")));
  EXPECT_THAT(Close(*bob_, "any"),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

// The stream is let in, and what the authorizer gives then is gone when its
// `open` is there.
TEST_F(AccessTest, GrantsThatAreGoneWhenItOpensDoNotCount) {
  book_->Give("token:alice", Sessions(1));
  book_->GiveOnce();
  EXPECT_THAT(Open(*alice_, Offer(), std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("may not open sessions")));
  EXPECT_EQ(host_.admitted(), 0);
}

// Streams that never say `open`.
TEST_F(AccessTest, OneIdentityTakesNoMoreStreamsThanItsSessionsAnd16More) {
  book_->Give("token:alice", Sessions(1));
  book_->Give("token:bob", Sessions(1));
  constexpr int kTaken = 1 + 16, kTooMany = 3;
  std::vector<std::unique_ptr<RawCaller>> callers;
  for (int i = 0; i < kTaken + kTooMany; ++i) {
    callers.push_back(
        std::make_unique<RawCaller>(server_->address(), "Bearer alice-token"));
  }
  absl::Mutex mu;
  std::vector<grpc::Status> refused;
  std::vector<std::thread> threads;
  for (const auto& caller : callers) {
    threads.emplace_back([&] {
      const grpc::Status end = caller->ReadToEnd().status;
      absl::MutexLock lock(&mu);
      if (end.error_code() != grpc::StatusCode::CANCELLED) {
        refused.push_back(end);
      }
    });
  }
  const auto all_refused = [&] { return refused.size() >= kTooMany; };
  {
    absl::MutexLock lock(&mu);
    EXPECT_TRUE(mu.AwaitWithTimeout(absl::Condition(&all_refused), kPatience));
  }
  Session bobs(*bob_, host_);
  for (const auto& caller : callers) caller->Cancel();
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(refused, SizeIs(kTooMany));
  for (const grpc::Status& status : refused) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr("token:alice has 17 control streams"),
                      HasSubstr("sessions_per_identity")));
  }
}

TEST(ControlServiceHostTest, WithoutAnAccessNobodyMayDoAnything) {
  FakeHost host(PeerWith("bob", {}));
  TestServer server(&host, {.access = Access::Nobody()});
  auto client = Connect(server.address());
  EXPECT_THAT(Open(*client, Offer(), std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(List(*client), StatusIs(absl::StatusCode::kPermissionDenied));
}

// A host that goes while it admits.
class GoingHost : public FakeHost {
 public:
  using FakeHost::FakeHost;
  absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) override {
    stream->SendGoodbye(absl::OkStatus());
    return FakeHost::Admit(session_id, plan, caller, std::move(stream));
  }
};

TEST(ControlServiceHostTest, CalleeThatGoesWhileItAdmitsIsUnavailable) {
  GoingHost host(PeerWith("bob", {}));
  TestServer server(&host);
  auto client = Connect(server.address());
  EXPECT_THAT(
      Open(*client, Offer(), std::make_shared<HeardEvents>()),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the callee ended")));
}

// What the caller hears, and that the service and its server still end.
class ThrowingHost : public FakeHost {
 public:
  using FakeHost::FakeHost;
  Policy GetPolicy() override { throw std::runtime_error("no policy today"); }
};

class ThrowingAdmit : public FakeHost {
 public:
  using FakeHost::FakeHost;
  absl::StatusOr<Admitted> Admit(const std::string&, const SessionPlan&,
                                 const Identity&,
                                 std::shared_ptr<ControlStream>) override {
    throw std::bad_alloc();
  }
  std::pair<uint64_t, uint64_t> BytesMoved(const std::string&) override {
    throw 3;
  }
};

TEST(ControlServiceHostTest, WhatTheHostThrowsIsTheCallersStatus) {
  ThrowingHost host(PeerWith("bob", {}));
  auto server = std::make_unique<TestServer>(&host);
  auto client = Connect(server->address());
  EXPECT_THAT(Open(*client, Offer(), std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("the host threw: no policy today")));
  EXPECT_THAT(Await<Explanation>([&](Done<Explanation> done) {
                client->Explain(Offer(), PeerWith("alice", {}), kTimeout,
                                std::move(done));
              }),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("the host threw: no policy today")));
  server.reset();
}

class ThrowingAuthorizer : public Authorizer {
 public:
  Grants GrantsOf(const Identity&) const override {
    throw std::runtime_error("no grants today");
  }
};

TEST(ControlServiceHostTest, WhatTheAuthorizerThrowsIsTheCallersStatus) {
  FakeHost host(PeerWith("bob", {}));
  ServerSecurity security;
  security.authorizer = std::make_shared<const ThrowingAuthorizer>();
  auto access = Access::Create(security);
  ASSERT_THAT(access, IsOk());
  TestServer server(&host, {.access = *std::move(access)});
  auto client = Connect(server.address());
  const auto told = StatusIs(absl::StatusCode::kInternal,
                             HasSubstr("threw: no grants today"));
  EXPECT_THAT(Open(*client, Offer(), std::make_shared<HeardEvents>()), told);
  EXPECT_THAT(List(*client), told);
  EXPECT_THAT(Close(*client, "any"), told);
}

TEST(ControlServiceHostTest, AdmitThatThrowsLeavesNoSession) {
  ThrowingAdmit host(PeerWith("bob", {}));
  auto server = std::make_unique<TestServer>(&host);
  auto client = Connect(server->address());
  EXPECT_THAT(Open(*client, Offer(), std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("out of memory")));
  EXPECT_THAT(List(*client), IsOkAndHolds(IsEmpty()));
  server.reset();
}

TEST(ControlServiceHostTest, MaxSessionsIsResourceExhaustedUntilOneEnds) {
  FakeHost host(PeerWith("bob", {}));
  ControlServiceOptions options;
  options.max_sessions = 1;
  TestServer server(&host, options);
  auto client = Connect(server.address());
  Session session(*client, host);
  EXPECT_THAT(Open(*client, Offer(), std::make_shared<HeardEvents>()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("\"bob\""), HasSubstr("max_sessions"))));
  session.caller.stream->SendGoodbye(absl::OkStatus());
  EXPECT_THAT(session.callee.events->AwaitEnd(), IsOk());
  Session next(*client, host);
}

TEST(ControlServiceHostTest, ServerThatGoesFirstIsNoTrouble) {
  FakeHost host(PeerWith("bob", {}));
  auto server = std::make_unique<TestServer>(&host);
  auto client = Connect(server->address());
  Session session(*client, host);
  server.reset();
  EXPECT_THAT(session.events->AwaitEnd(), IsOk());
  EXPECT_TRUE(host.AllEnded());
  session.callee.stream->SendGoodbye(absl::OkStatus());  // nobody hears it
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
