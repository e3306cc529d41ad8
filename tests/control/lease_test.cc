// Time on the control stream: heartbeats, leases, deadlines. The clock stands
// still but for what the test does.
#include "control/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/clock.h"
#include "base/loop.h"
#include "control/control_client.h"
#include "tests/control/raw_peer.h"
#include "tests/control/test_peers.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kHeartbeat = absl::Seconds(4);
constexpr absl::Duration kLease = absl::Seconds(15);

ControlServiceOptions OptionsWith(Clock* clock) {
  ControlServiceOptions options;
  options.heartbeat = kHeartbeat;
  options.lease = kLease;
  options.clock = clock;
  return options;
}

class LeaseTest : public ::testing::Test {
 protected:
  std::string Accept(RawCaller& caller, uint32_t lease_ms = 0) {
    pb::SessionRequest open = OpenMessage(Offer(), PeerWith("alice", {}));
    open.mutable_open()->set_lease_ms(lease_ms);
    caller.Write(open);
    pb::SessionResponse response;
    EXPECT_TRUE(caller.Read(&response) && response.has_accepted());
    return response.accepted().ticket().session_id();
  }
  static ControlClientOptions ClientOptions(Loop* loop) {
    ControlClientOptions options;
    options.heartbeat = kHeartbeat;
    options.lease = kLease;
    options.loop = loop;
    return options;
  }
  static absl::StatusOr<ControlClient::Accepted> Open(
      ControlClient& client, std::shared_ptr<HeardEvents> events) {
    return Await<ControlClient::Accepted>(
        [&](Done<ControlClient::Accepted> done) {
          client.OpenSession(Offer(), PeerWith("alice", {}), std::move(events),
                             kLease, std::move(done));
        });
  }
  // Asks the service until it has a session with that lease.
  static void AwaitLease(ControlClient& client, absl::Time until) {
    while (true) {
      auto sessions = Await<std::vector<SessionRecord>>(
          [&](Done<std::vector<SessionRecord>> done) {
            client.ListSessions(kPatience, std::move(done));
          });
      ASSERT_THAT(sessions, IsOkAndHolds(SizeIs(1)));
      if (sessions->front().lease_until == until) return;
    }
  }

  // Until it has run what is due by now.
  static void AwaitLoop(Loop& loop) {
    absl::Notification run;
    loop.Post([&] { run.Notify(); });
    run.WaitForNotification();
  }

  FakeClock clock_{absl::FromUnixSeconds(1000)};
  FakeHost host_{PeerWith("bob", {})};
};

TEST_F(LeaseTest, HeartbeatsOfBothSidesKeepASessionAlive) {
  TestServer server(&host_, OptionsWith(&clock_));
  Loop loop(&clock_);
  auto client = *ControlClient::Create(server.address(), ClientOptions(&loop));
  auto events = std::make_shared<HeardEvents>();
  auto session = Open(*client, events);
  ASSERT_THAT(session, IsOk());
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(kHeartbeat);
    AwaitLease(*client, clock_.Now() + kLease);
  }
  EXPECT_FALSE(events->ended());
  EXPECT_FALSE(host_.Of(session->ticket.session_id).events->ended());
  session->stream->SendGoodbye(absl::OkStatus());
  EXPECT_THAT(events->AwaitEnd(), IsOk());
}

TEST_F(LeaseTest, SilentCallerLosesItsSession) {
  TestServer server(&host_, OptionsWith(&clock_));
  RawCaller caller(server.address());
  std::string id = Accept(caller);
  // The end does not wait for the caller to read its goodbye.
  clock_.Advance(kLease);
  EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("\"alice\" was silent for 15s"),
                             HasSubstr(id))));
  RawCaller::End end = caller.ReadToEnd();
  EXPECT_EQ(end.goodbye, static_cast<int>(absl::StatusCode::kUnavailable));
  EXPECT_THAT(server.control().sessions().List(), IsEmpty());
}

TEST_F(LeaseTest, SilenceCountsFromTheLastSignOfLife) {
  TestServer server(&host_, OptionsWith(&clock_));
  auto client = *ControlClient::Create(server.address());
  RawCaller caller(server.address());
  std::string id = Accept(caller);
  clock_.Advance(absl::Seconds(1));
  caller.Write(HeartbeatRequest());
  AwaitLease(*client, clock_.Now() + kLease);
  clock_.Advance(kLease - absl::Milliseconds(1));
  AwaitLease(*client, clock_.Now() + absl::Milliseconds(1));
  EXPECT_FALSE(host_.Of(id).events->ended());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(LeaseTest, CallerThatDoesNotAnswerAGoodbyeIsGivenTwoSeconds) {
  TestServer server(&host_, OptionsWith(&clock_));
  RawCaller caller(server.address());
  FakeHost::Session session = host_.Of(Accept(caller));
  session.stream->SendGoodbye(absl::OkStatus());
  pb::SessionResponse goodbye;
  ASSERT_TRUE(caller.Read(&goodbye) && goodbye.has_goodbye());
  EXPECT_FALSE(session.events->ended());
  clock_.Advance(absl::Seconds(2));
  EXPECT_THAT(session.events->AwaitEnd(), IsOk());
}

TEST_F(LeaseTest, AnySignOfLifeRenewsTheLease) {
  TestServer server(&host_, OptionsWith(&clock_));
  auto client = *ControlClient::Create(server.address());
  RawCaller caller(server.address());
  std::string id = Accept(caller);
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(kLease - absl::Seconds(1));
    caller.Write(HeartbeatRequest());
    AwaitLease(*client, clock_.Now() + kLease);
  }
  EXPECT_FALSE(host_.Of(id).events->ended());
}

TEST_F(LeaseTest, OptionsBeyondTheBoundsCountAsTheBound) {
  ControlServiceOptions options = OptionsWith(&clock_);
  options.lease = -absl::Seconds(1);
  options.heartbeat = absl::ZeroDuration();
  options.max_sessions = 0;
  TestServer server(&host_, options);
  Loop loop(&clock_);
  ControlClientOptions client_options = ClientOptions(&loop);
  client_options.lease = absl::ZeroDuration();
  client_options.heartbeat = absl::InfiniteDuration();
  auto client = *ControlClient::Create(server.address(), client_options);
  auto events = std::make_shared<HeardEvents>();
  auto session = Open(*client, events);
  ASSERT_THAT(session, IsOk());
  AwaitLease(*client, clock_.Now() + kShortestLease);
  clock_.Advance(kShortestLease / 2);
  AwaitLease(*client, clock_.Now() + kShortestLease);
  EXPECT_FALSE(events->ended());
}

TEST_F(LeaseTest, StreamWithoutOpenEndsAfterALease) {
  TestServer server(&host_, OptionsWith(&clock_));
  RawCaller caller(server.address());
  RawCaller::End end;
  absl::Notification ended;
  std::thread reader([&] {
    end = caller.ReadToEnd();
    ended.Notify();
  });
  // The stream's time counts from when the service saw it: by now, as a rule.
  RawCaller later(server.address());
  Accept(later);
  do {
    clock_.Advance(kLease);
  } while (!ended.WaitForNotificationWithTimeout(absl::Seconds(5)));
  reader.join();
  EXPECT_EQ(end.goodbye, static_cast<int>(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(end.why, HasSubstr("no `open` within 15s"));
  EXPECT_EQ(end.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(LeaseTest, CalleeSendsHeartbeatsAsOftenAsTheCallersLeaseAsks) {
  TestServer server(&host_, OptionsWith(&clock_));
  RawCaller caller(server.address());
  Accept(caller, 3000);
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Seconds(1));
    pb::SessionResponse response;
    ASSERT_TRUE(caller.ReadAny(&response));
    EXPECT_TRUE(response.has_heartbeat());
  }
}

TEST_F(LeaseTest, SilentCalleeLosesItsSession) {
  RawCallee callee;
  callee.on_open = [&](grpc::ServerContext* context,
                       RawCallee::Stream* stream) {
    stream->Write(
        AcceptedMessage(Offer(), PeerWith("alice", {}), PeerWith("bob", {})));
    return RawCallee::AwaitCancelled(context);
  };
  Loop loop(&clock_);
  auto client = *ControlClient::Create(callee.address(), ClientOptions(&loop));
  auto events = std::make_shared<HeardEvents>();
  ASSERT_THAT(Open(*client, events), IsOk());
  clock_.Advance(kLease - absl::Milliseconds(1));
  AwaitLoop(loop);
  EXPECT_FALSE(events->ended());
  // The end does not wait for the callee, which does not hear its goodbye.
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(events->AwaitEnd(), StatusIs(absl::StatusCode::kUnavailable,
                                           HasSubstr("silent for 15s")));
}

// Counts what is posted to it.
class CountingLoop : public Loop {
 public:
  using Loop::Loop;
  ~CountingLoop() override { Stop(); }
  void Post(Task task) override {
    Loop::Post(std::move(task));
    absl::MutexLock lock(&mu_);
    ++posts_;
  }
  void AwaitPosts(int posts) {
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return posts_ >= posts;
    };
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&enough));
  }

 private:
  absl::Mutex mu_;
  int posts_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST_F(LeaseTest, WhatCameWhileTheCallersLoopWasBusyCounts) {
  absl::Notification loop_is_busy;
  RawCallee callee;
  callee.on_open = [&](grpc::ServerContext* context,
                       RawCallee::Stream* stream) {
    stream->Write(
        AcceptedMessage(Offer(), PeerWith("alice", {}), PeerWith("bob", {})));
    loop_is_busy.WaitForNotification();
    stream->Write(HeartbeatResponse());
    return RawCallee::AwaitCancelled(context);
  };
  CountingLoop loop(&clock_);
  auto client = *ControlClient::Create(callee.address(), ClientOptions(&loop));
  auto events = std::make_shared<HeardEvents>();
  ASSERT_THAT(Open(*client, events), IsOk());
  // The call, that it was written, the answer; then ours and the heartbeat.
  loop.AwaitPosts(3);
  absl::Notification go_on;
  loop.Post([&] {
    loop_is_busy.Notify();
    go_on.WaitForNotification();
  });
  loop.AwaitPosts(5);
  clock_.Advance(kLease);
  go_on.Notify();
  AwaitLoop(loop);  // what was due
  AwaitLoop(loop);  // what that has posted
  EXPECT_FALSE(events->ended());
}

TEST_F(LeaseTest, TimeoutBoundsTheNegotiation) {
  RawCallee callee;
  callee.on_open = [](grpc::ServerContext* context, auto*) {
    return RawCallee::AwaitCancelled(context);
  };
  Loop loop(&clock_);
  auto client = *ControlClient::Create(callee.address(), ClientOptions(&loop));
  auto events = std::make_shared<HeardEvents>();
  absl::Status status;
  absl::Notification done;
  client->OpenSession(Offer(), PeerWith("alice", {}), events, kLease,
                      [&](absl::StatusOr<ControlClient::Accepted> got) {
                        status = got.status();
                        done.Notify();
                      });
  absl::Notification begun;  // the call starts on the loop, before this
  loop.Post([&] { begun.Notify(); });
  begun.WaitForNotification();
  clock_.Advance(kLease);
  done.WaitForNotification();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded,
                               AllOf(HasSubstr(callee.address()),
                                     HasSubstr("within 15s"))));
  EXPECT_FALSE(events->ended());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
