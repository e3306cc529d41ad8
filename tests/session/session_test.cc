// Sessions between two peers in one process, over real gRPC and real lanes.
#include "session/session.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/clock.h"
#include "base/executor.h"
#include "control/authorizer.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "session/reconnect.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"
#include "transfer/lendable_memory.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::HeldExecutor;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(30);

// A callee that keeps the sessions it accepts, and a caller.
class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FERRY_ASSERT_OK_AND_ASSIGN(callee_, Peer::Create({.name = "callee"}));
    FERRY_ASSERT_OK_AND_ASSIGN(caller_,
                               Peer::Create({.name = "caller", .control = ""}));
    AcceptAll(*callee_);
  }
  void TearDown() override {
    std::vector<std::shared_ptr<Session>> accepted;
    absl::MutexLock lock(&mu_);
    accepted.swap(accepted_);
  }

  void AcceptAll(Peer& peer) {
    peer.Accept([this](std::shared_ptr<Session> session) {
      absl::MutexLock lock(&mu_);
      accepted_.push_back(std::move(session));
    });
  }

  // The callee's half of the n-th session, once it is there.
  std::shared_ptr<Session> Accepted(size_t n) {
    absl::MutexLock lock(&mu_);
    auto arrived = [this, n]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return accepted_.size() > n;
    };
    if (!mu_.AwaitWithTimeout(absl::Condition(&arrived), kPatience)) {
      return nullptr;
    }
    return accepted_[n];
  }

  absl::StatusOr<std::shared_ptr<Session>> Connect(Offer offer = {}) {
    return blocking::Connect(*caller_, callee_->control_address(),
                             std::move(offer), kPatience);
  }

  absl::Mutex mu_;
  std::vector<std::shared_ptr<Session>> accepted_;
  std::unique_ptr<Peer> callee_, caller_;
};

TEST_F(SessionTest, CarriesAMessageInEachDirection) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  EXPECT_EQ(ours->id(), theirs->id());
  EXPECT_EQ(Digest(ours->plan()), Digest(theirs->plan()));
  EXPECT_EQ(theirs->remote().name, "caller");

  at::Tensor tensor = at::arange(1000, at::kFloat);
  Receipt receipt;
  absl::Notification sent;
  ours->Send({.type = 3,
              .id = -4,
              .payload = "bytes",
              .tensors = {tensor},
              .names = {"t"}},
             {}, [&](absl::StatusOr<Receipt> result) {
               EXPECT_THAT(result, IsOk());
               if (result.ok()) receipt = *std::move(result);
               sent.Notify();
             });
  FERRY_ASSERT_OK_AND_ASSIGN(Received received, blocking::Receive(*theirs));
  sent.WaitForNotification();
  EXPECT_EQ(receipt.tensors, 1);
  EXPECT_EQ(receipt.digest.size(), 32u);
  EXPECT_EQ(received.message.type, 3u);
  EXPECT_EQ(received.message.id, -4);
  EXPECT_EQ(received.message.payload, "bytes");
  EXPECT_THAT(received.message.names, ElementsAre("t"));
  EXPECT_TRUE(at::equal(received.message.tensors.at(0), tensor));
  EXPECT_EQ(received.receipt.digest, receipt.digest);

  absl::Notification sent_back;
  theirs->Send({.tensors = {tensor * 2}}, {}, [&](absl::StatusOr<Receipt> r) {
    EXPECT_THAT(r, IsOk());
    sent_back.Notify();
  });
  FERRY_ASSERT_OK_AND_ASSIGN(Received back, blocking::Receive(*ours));
  sent_back.WaitForNotification();
  EXPECT_TRUE(at::equal(back.message.tensors.at(0), tensor * 2));
}

TEST_F(SessionTest, CallReturnsTheReplyToThatCall) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(theirs->Handle(8,
                             [](Session& session, Received call) {
                               session.Reply(
                                   call.envelope,
                                   {.id = call.message.id,
                                    .tensors = {call.message.tensors[0] + 1}},
                                   {}, nullptr);
                             }),
              IsOk());
  absl::BlockingCounter ended(20);
  for (int i = 0; i < 20; ++i) {
    ours->Call({.type = 8, .id = i, .tensors = {at::full({3}, i)}}, {},
               [&ended, i](absl::StatusOr<Received> reply) {
                 EXPECT_THAT(reply, IsOk());
                 if (reply.ok()) {
                   EXPECT_EQ(reply->message.id, i);
                   EXPECT_TRUE(at::equal(reply->message.tensors.at(0),
                                         at::full({3}, i + 1)));
                 }
                 ended.DecrementCount();
               });
  }
  ended.Wait();
}

TEST_F(SessionTest, AnErrorReplyIsTheCallersStatus) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(theirs->Handle(8,
                             [](Session& session, Received call) {
                               session.ReplyError(
                                   call.envelope,
                                   absl::NotFoundError("no such layer"),
                                   nullptr);
                             }),
              IsOk());
  EXPECT_THAT(
      blocking::Call(*ours, {.type = 8}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no such layer")));
}

TEST_F(SessionTest, AHandlerThatThrowsIsAnInternalErrorToItsCaller) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(theirs->Handle(8,
                             [](Session&, Received) {
                               throw std::runtime_error("out of cheese");
                             }),
              IsOk());
  EXPECT_THAT(
      blocking::Call(*ours, {.type = 8}),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("out of cheese")));
}

TEST_F(SessionTest, AHandlerThatThrowsOnAMessageEndsTheSession) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(theirs->Handle(8,
                             [](Session&, Received) {
                               throw std::runtime_error("out of cheese");
                             }),
              IsOk());
  absl::Notification ended;
  ours->OnEnd([&](SessionReport report) {
    EXPECT_THAT(report.why, StatusIs(absl::StatusCode::kInternal,
                                     HasSubstr("out of cheese")));
    ended.Notify();
  });
  ours->Send({.type = 8}, {}, nullptr);
  ended.WaitForNotification();
}

TEST_F(SessionTest, OnSessionThatThrowsEndsTheSession) {
  callee_->Accept(
      [](std::shared_ptr<Session>) { throw std::runtime_error("no room"); });
  auto ours = Connect();
  absl::Status why = ours.status();  // it may have ended before it was open
  if (ours.ok()) {
    absl::Notification ended;
    (*ours)->OnEnd([&](SessionReport report) {
      why = report.why;
      ended.Notify();
    });
    ended.WaitForNotification();
  }
  EXPECT_THAT(why, StatusIs(absl::StatusCode::kInternal,
                            HasSubstr("on_session threw: no room")));
}

TEST_F(SessionTest, AReplyThatCannotBeSentIsAnErrorToItsCaller) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification replied;
  ASSERT_THAT(theirs->Handle(
                  8,
                  [&](Session& session, Received call) {
                    session.Reply(
                        call.envelope, {.tensors = {at::empty({3}, at::kMeta)}},
                        {}, [&](absl::StatusOr<Receipt> sent) {
                          EXPECT_THAT(
                              sent,
                              StatusIs(absl::StatusCode::kInvalidArgument));
                          replied.Notify();
                        });
                  }),
              IsOk());
  EXPECT_THAT(
      blocking::Call(*ours, {.type = 8}, {.timeout = absl::InfiniteDuration()}),
      StatusIs(absl::StatusCode::kInvalidArgument));
  replied.WaitForNotification();
}

TEST_F(SessionTest, ACallThatNobodyAnswersEndsAtItsDeadline) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  ASSERT_NE(Accepted(0), nullptr);
  EXPECT_THAT(
      blocking::Call(*ours, {.type = 8}, {.timeout = absl::Milliseconds(50)}),
      StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(SessionTest, ReceivesIntoTheCallersOwnTensor) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  at::Tensor own = at::full({100000}, 0.0f);
  const void* data = own.data_ptr();
  absl::Notification sent;
  ours->Send({.tensors = {at::full({100000}, 7.0f)}, .names = {"w"}}, {},
             [&](absl::StatusOr<Receipt> receipt) {
               EXPECT_THAT(receipt, IsOk());
               sent.Notify();
             });
  FERRY_ASSERT_OK_AND_ASSIGN(
      Received received,
      blocking::Receive(*theirs, {.into = {.tensors = {own}, .names = {"w"}}}));
  sent.WaitForNotification();
  EXPECT_EQ(received.message.tensors.at(0).data_ptr(), data);
  EXPECT_TRUE(at::equal(own, at::full({100000}, 7.0f)));
}

TEST_F(SessionTest, CloseWithDrainLetsBothSidesFinish) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  constexpr int kMessages = 50;
  absl::BlockingCounter ended(4 * kMessages);
  const at::Tensor tensor = at::ones({50000});
  for (int i = 0; i < kMessages; ++i) {
    for (Session* session : {ours.get(), theirs.get()}) {
      session->Send({.tensors = {tensor}}, {},
                    [&](absl::StatusOr<Receipt> receipt) {
                      EXPECT_THAT(receipt, IsOk());
                      ended.DecrementCount();
                    });
      session->Receive({}, [&](absl::StatusOr<Received> received) {
        EXPECT_THAT(received, IsOk());
        ended.DecrementCount();
      });
    }
  }
  absl::Notification they_ended;
  theirs->OnEnd([&](SessionReport report) {
    EXPECT_THAT(report.why, IsOk());
    they_ended.Notify();
  });
  FERRY_ASSERT_OK_AND_ASSIGN(SessionReport report,
                             blocking::Close(*ours, kPatience));
  ended.Wait();
  they_ended.WaitForNotification();
  EXPECT_THAT(report.why, IsOk());
  EXPECT_EQ(report.counters.messages_sent, 50u);
  EXPECT_EQ(report.counters.messages_received, 50u);
}

TEST_F(SessionTest, AfterTheEndEveryCallSaysWhy) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification ended;
  theirs->OnEnd([&](SessionReport report) {
    EXPECT_THAT(report.why, IsOk());
    ended.Notify();
  });
  ASSERT_THAT(blocking::Close(*ours, absl::ZeroDuration()), IsOk());
  ASSERT_THAT(blocking::Close(*ours, absl::ZeroDuration()), IsOk());
  ended.WaitForNotification();
  for (Session* session : {ours.get(), theirs.get()}) {
    EXPECT_THAT(
        blocking::Send(*session, {}),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ended")));
    EXPECT_THAT(blocking::Receive(*session),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(blocking::Call(*session, {}),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(session->Handle(1, [](Session&, Received) {}),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

void CloseEndsPendingOperations(Session& closing, Session& other) {
  absl::BlockingCounter ended(2);
  for (Session* session : {&closing, &other}) {
    session->Receive({}, [&](absl::StatusOr<Received> received) {
      EXPECT_THAT(received, StatusIs(absl::StatusCode::kCancelled));
      ended.DecrementCount();
    });
  }
  ASSERT_THAT(blocking::Close(closing, absl::ZeroDuration()), IsOk());
  ended.Wait();
}

TEST_F(SessionTest, PendingOperationsEndWithClose) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  CloseEndsPendingOperations(*ours, *theirs);
}

TEST_F(SessionTest, PendingOperationsEndWhenTheCalleeCloses) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  CloseEndsPendingOperations(*theirs, *ours);
}

TEST_F(SessionTest, ManySessionsWorkAtOnce) {
  constexpr int kSessions = 16;
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < kSessions; ++i) {
    FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
    sessions.push_back(std::move(session));
  }
  absl::BlockingCounter ended(2 * kSessions);
  for (int i = 0; i < kSessions; ++i) {
    auto theirs = Accepted(i);
    ASSERT_NE(theirs, nullptr);
    theirs->Receive({}, [&](absl::StatusOr<Received> received) {
      EXPECT_THAT(received, IsOk());
      ended.DecrementCount();
    });
    sessions[i]->Send({.tensors = {at::ones({1 << 18})}}, {},
                      [&](absl::StatusOr<Receipt> receipt) {
                        EXPECT_THAT(receipt, IsOk());
                        ended.DecrementCount();
                      });
  }
  ended.Wait();
  EXPECT_EQ(callee_->ListSessions().size(), size_t{kSessions});
}

TEST_F(SessionTest, MayBeDestroyedInItsOwnCallback) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification ended;
  theirs->OnEnd([&](SessionReport) { ended.Notify(); });
  Session* raw = ours.get();
  auto held = std::make_shared<std::shared_ptr<Session>>(std::move(ours));
  raw->Send({.payload = "last words"}, {},
            [held](absl::StatusOr<Receipt> receipt) {
              EXPECT_THAT(receipt, IsOk());
              held->reset();
            });
  ASSERT_THAT(blocking::Receive(*theirs), IsOk());
  ended.WaitForNotification();
}

TEST_F(SessionTest, APeerMayBeDestroyedInItsOwnCallback) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification destroyed, ended;
  theirs->OnEnd([&](SessionReport) { ended.Notify(); });
  ours->Send({.payload = "last words"}, {}, [&](absl::StatusOr<Receipt>) {
    caller_ = nullptr;
    destroyed.Notify();
  });
  ASSERT_THAT(blocking::Receive(*theirs), IsOk());
  destroyed.WaitForNotification();
  ended.WaitForNotification();
}

// By what its callback holds, on the loop.
TEST_F(SessionTest, APeerMayGoWithAQuickCallback) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification ended;
  theirs->OnEnd([&](SessionReport) { ended.Notify(); });
  Session& session = *ours;
  session.Send({.payload = "last words"}, {.done_is_quick = true},
               [peer = std::move(caller_),
                ours = std::move(ours)](absl::StatusOr<Receipt>) {});
  ASSERT_THAT(blocking::Receive(*theirs), IsOk());
  ended.WaitForNotification();
}

TEST_F(SessionTest, APeerMayGoOnceWhatItLentIsReturned) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification ended;
  theirs->OnEnd([&](SessionReport) { ended.Notify(); });
  auto memory = LendableMemory::Create();
  FERRY_ASSERT_OK_AND_ASSIGN(at::Tensor lent,
                             memory->Empty({1 << 20}, at::kByte));
  ours->Send({.tensors = {lent}}, {.lend = memory}, nullptr);
  {
    FERRY_ASSERT_OK_AND_ASSIGN(Received received,
                               blocking::Receive(*theirs, {.leases = true}));
    memory->WhenReturned(lent, [peer = std::move(caller_),
                                ours = std::move(ours)](absl::Status) {});
  }
  ended.WaitForNotification();
}

// Those of threads that nobody has joined count, too.
int ThreadStacks() {
  pthread_attr_t defaults;
  size_t size = 0;
  pthread_getattr_default_np(&defaults);
  pthread_attr_getstacksize(&defaults, &size);
  pthread_attr_destroy(&defaults);
  std::ifstream maps("/proc/self/maps");
  int stacks = 0;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    char access[5] = {};
    std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, access);
    // The guard page may be a part of it.
    stacks += std::string(access) == "rw-p" && end - begin <= size &&
              end - begin + 65536 > size;
  }
  return stacks;
}

TEST_F(SessionTest, PeersThatAreDestroyedInCallbacksLeaveNoThreads) {
  constexpr int kPeers = 30;  // more than stacks are kept for threads to come
  const int before = ThreadStacks();
  for (int i = 0; i < kPeers; ++i) {
    absl::Notification destroyed;
    auto peer = *Peer::Create({.name = "dropped", .control = ""});
    peer->Explain("127.0.0.1:1", {}, kPatience, [&](auto) {
      peer = nullptr;
      destroyed.Notify();
    });
    destroyed.WaitForNotification();
  }
  const absl::Time until = absl::Now() + kPatience;
  while (ThreadStacks() >= before + kPeers / 2 && absl::Now() < until) {
    std::this_thread::yield();
  }
  EXPECT_LT(ThreadStacks(), before + kPeers / 2);
}

TEST_F(SessionTest, ACallbackThatThrowsEndsItsSessionAlone) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  FERRY_ASSERT_OK_AND_ASSIGN(auto neighbour, Connect());
  absl::Notification ended;
  absl::Status why;
  ours->OnEnd([&](SessionReport report) {
    why = report.why;
    ended.Notify();
    throw std::runtime_error("nobody hears this");
  });
  ours->Receive({.timeout = absl::Milliseconds(1)},
                [](absl::StatusOr<Received>) {
                  throw std::runtime_error("a user's mistake");
                });
  ended.WaitForNotification();
  EXPECT_THAT(why, StatusIs(absl::StatusCode::kInternal,
                            HasSubstr("a user's mistake")));
  ASSERT_NE(Accepted(1), nullptr);
  EXPECT_THAT(blocking::Close(*neighbour, kPatience), IsOk());
}

TEST_F(SessionTest, AHandlerWithoutMemoryIsAnExhaustedResource) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(
      theirs->Handle(
          7, [](Session&, Received) -> void { throw std::bad_alloc(); }),
      IsOk());
  EXPECT_THAT(blocking::Call(*ours, {.type = 7}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

// How often a ThrowingClock is asked on this thread until it throws, once.
thread_local int asks_until_throw = 0;

class ThrowingClock : public FakeClock {
 public:
  absl::Time Now() const override {
    if (asks_until_throw > 0 && --asks_until_throw == 0) throw std::bad_alloc();
    return FakeClock::Now();
  }
};

// Sets that clock. It is asked twice: before a session is admitted, too.
class SetsTheClock : public Authorizer {
 public:
  explicit SetsTheClock(int asks) : asks_(asks) {}
  Grants GrantsOf(const Identity&) const override {
    asks_until_throw = asks_;
    return Grants::All();
  }

 private:
  const int asks_;
};

TEST_F(SessionTest, WhereverAnAdmissionThrowsNoSessionIsLeft) {
  absl::Status opened = absl::UnknownError("none was tried");
  int asks = 0;
  while (!opened.ok() && asks < 100) {
    ThrowingClock clock;
    PeerOptions options{.name = "callee", .clock = &clock};
    options.security.authorizer = std::make_shared<SetsTheClock>(++asks);
    FERRY_ASSERT_OK_AND_ASSIGN(auto callee, Peer::Create(options));
    AcceptAll(*callee);
    opened =
        blocking::Connect(*caller_, callee->control_address(), {}, kPatience)
            .status();
    if (opened.ok()) break;
    // The other one is said by lanes that are dropped meanwhile.
    EXPECT_THAT(opened, AnyOf(StatusIs(absl::StatusCode::kResourceExhausted),
                              StatusIs(absl::StatusCode::kCancelled)))
        << asks;
    EXPECT_THAT(callee->ListSessions(), IsEmpty());
  }
  EXPECT_THAT(opened, IsOk());
  EXPECT_GT(asks, 3);
}

TEST_F(SessionTest, AKeptSessionStopsWhereAnotherTryMakesNoSense) {
  absl::Notification stopped;
  absl::Status why;
  Offer offer;
  offer.expected_epoch = callee_->id().epoch + 1;
  KeptSession kept(
      caller_.get(), callee_->control_address(), offer, {},
      [](std::shared_ptr<Session>) { ADD_FAILURE(); },
      [&](absl::Status status) {
        why = std::move(status);
        stopped.Notify();
      });
  stopped.WaitForNotification();
  EXPECT_THAT(why, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(SessionTest, AKeptSessionThatIsGivenUpTriesNoMore) {
  absl::Status why;
  {
    KeptSession kept(
        caller_.get(), "127.0.0.1:1", {},
        {.back_off = {.first = absl::Hours(1), .longest = absl::Hours(1)}},
        [](std::shared_ptr<Session>) { ADD_FAILURE(); },
        [&](absl::Status status) { why = std::move(status); });
  }
  EXPECT_THAT(why, StatusIs(absl::StatusCode::kCancelled));
}

// Keeps a session with a callee that fails in each as soon as it is open, on a
// clock that stands still but for `live`, which is told the number of each
// session. Gives up after three failures in a row; returns how many there were.
int SessionsKept(Peer& caller, Peer& callee, FakeClock& clock,
                 std::function<void(int)> live) {
  callee.Accept([](std::shared_ptr<Session> session) {
    auto fail = [](Session&, Received) -> void { throw std::bad_alloc(); };
    EXPECT_THAT(session->Handle(7, fail), IsOk());
    session->OnEnd([session](SessionReport) {});
  });
  std::vector<std::shared_ptr<Session>> opened;
  absl::Notification stopped;
  KeptSession kept(
      &caller, callee.control_address(), {},
      {.back_off = {.first = absl::ZeroDuration(), .attempts = 3},
       .clock = &clock},
      [&](std::shared_ptr<Session> session) {
        opened.push_back(session);
        live(static_cast<int>(opened.size()));
        session->Send({.type = 7}, {}, nullptr);
      },
      [&](absl::Status why) {
        EXPECT_THAT(why, StatusIs(absl::StatusCode::kResourceExhausted));
        stopped.Notify();
      });
  EXPECT_TRUE(stopped.WaitForNotificationWithTimeout(kPatience));
  return static_cast<int>(opened.size());
}

TEST_F(SessionTest, SessionsThatFailAtOnceAreFailuresInARow) {
  FakeClock clock;
  EXPECT_EQ(SessionsKept(*caller_, *callee_, clock, [](int) {}), 3);
}

TEST_F(SessionTest, ASessionThatLivesAsLongAsTheLongestPauseEndsTheRow) {
  FakeClock clock;
  auto live = [&](int session) {
    if (session <= 4) clock.Advance(BackOffOptions().longest);
  };
  EXPECT_EQ(SessionsKept(*caller_, *callee_, clock, live), 6);
}

TEST_F(SessionTest, TheEndOfAKeptSessionAwaitsTheCallbackThatRuns) {
  absl::Notification in_callback, ending;
  std::atomic<bool> has_run = false;
  auto kept = std::make_unique<KeptSession>(
      caller_.get(), callee_->control_address(), Offer(), ReconnectOptions(),
      [&](std::shared_ptr<Session>) {
        in_callback.Notify();
        ending.WaitForNotification();
        has_run = true;
      },
      [&](absl::Status) { EXPECT_TRUE(has_run); });
  in_callback.WaitForNotification();
  std::thread end([&] {
    ending.Notify();
    kept.reset();
    EXPECT_TRUE(has_run);
  });
  end.join();
}

TEST_F(SessionTest, AKeptSessionMayBeGivenUpInItsCallback) {
  absl::Notification made, stopped;
  std::unique_ptr<KeptSession> kept;
  kept = std::make_unique<KeptSession>(
      caller_.get(), callee_->control_address(), Offer(), ReconnectOptions(),
      [&](std::shared_ptr<Session>) {
        made.WaitForNotification();
        kept.reset();
      },
      [&](absl::Status why) {
        EXPECT_THAT(why, StatusIs(absl::StatusCode::kCancelled));
        stopped.Notify();
      });
  made.Notify();
  EXPECT_TRUE(stopped.WaitForNotificationWithTimeout(kPatience));
}

// The next try fails as it begins, on the loop that KeptSession has for them.
TEST_F(SessionTest, AKeptSessionMayBeGivenUpWhereATryBegins) {
  testing::TestFolder folder(testing::TestFolder::kForSockets);
  folder.Write("token", "secret");
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto caller,
      Peer::Create({.name = "caller",
                    .control = "",
                    .client_security = {.token_file = folder.Path("token")},
                    .executor = Executor::Inline()}));
  absl::Notification made, stopped;
  std::unique_ptr<KeptSession> kept;
  kept = std::make_unique<KeptSession>(
      caller.get(), "127.0.0.1:1", Offer(),
      ReconnectOptions{.back_off = {.longest = absl::Milliseconds(1)}},
      [](std::shared_ptr<Session>) { ADD_FAILURE(); },
      [&](absl::Status why) {
        made.WaitForNotification();
        EXPECT_THAT(why, StatusIs(absl::StatusCode::kNotFound));
        kept.reset();
        stopped.Notify();
      });
  std::remove(folder.Path("token").c_str());
  made.Notify();
  EXPECT_TRUE(stopped.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(SessionTest, AStoppedPeerIsGoneAndItsOldEpochIsRefused) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  const uint64_t old_epoch = ours->remote().epoch;
  const std::string address = callee_->control_address();
  absl::Notification ended;
  ours->OnEnd([&](SessionReport) { ended.Notify(); });
  ASSERT_NE(Accepted(0), nullptr);
  {
    absl::MutexLock lock(&mu_);
    accepted_.clear();
  }
  callee_.reset();
  ended.WaitForNotification();

  EXPECT_THAT(blocking::Connect(*caller_, address, {}, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnavailable));

  FERRY_ASSERT_OK_AND_ASSIGN(
      callee_, Peer::Create({.name = "callee", .control = address}));
  AcceptAll(*callee_);
  Offer offer;
  offer.expected_epoch = old_epoch;
  EXPECT_THAT(blocking::Connect(*caller_, address, offer, kPatience),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(absl::StrCat(old_epoch)),
                             HasSubstr(absl::StrCat(callee_->id().epoch)))));
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto again, blocking::Connect(*caller_, address, {}, kPatience));
  EXPECT_EQ(again->remote().epoch, callee_->id().epoch);
}

TEST_F(SessionTest, ExplainOpensNothing) {
  Offer offer;
  offer.to_callee.rules.push_back(
      {.source = {"cpu", 0}, .target = {"cuda", 3}});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Explanation explanation,
      blocking::Explain(*caller_, callee_->control_address(), offer,
                        kPatience));
  ASSERT_FALSE(explanation.objections.empty());
  EXPECT_THAT(std::string(explanation.objections[0].message()),
              HasSubstr("cuda:3"));
  EXPECT_TRUE(callee_->ListSessions().empty());
  EXPECT_THAT(Connect(offer), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("cuda:3")));
}

TEST_F(SessionTest, ShutdownDrainsEverySession) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification received;
  theirs->Receive({}, [&](absl::StatusOr<Received> message) {
    EXPECT_THAT(message, IsOk());
    received.Notify();
  });
  absl::Notification sent;
  ours->Send({.tensors = {at::ones({1 << 20})}}, {},
             [&](absl::StatusOr<Receipt> receipt) {
               EXPECT_THAT(receipt, IsOk());
               sent.Notify();
             });
  EXPECT_THAT(blocking::Shutdown(*caller_, kPatience), IsOk());
  EXPECT_THAT(blocking::Shutdown(*caller_, kPatience), IsOk());
  sent.WaitForNotification();
  received.WaitForNotification();
  EXPECT_THAT(Connect(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(
      blocking::Explain(*caller_, callee_->control_address(), {}, kPatience),
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr("'caller' is shutting down")));
}

TEST_F(SessionTest, ShutdownOfTheCalleeFinishesWhatItSends) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  constexpr int kMessages = 20;
  absl::BlockingCounter ended(2 * kMessages);
  for (int i = 0; i < kMessages; ++i) {
    theirs->Send({.tensors = {at::ones({1 << 18})}}, {},
                 [&](absl::StatusOr<Receipt> receipt) {
                   EXPECT_THAT(receipt, IsOk());
                   ended.DecrementCount();
                 });
    ours->Receive({}, [&](absl::StatusOr<Received> received) {
      EXPECT_THAT(received, IsOk());
      ended.DecrementCount();
    });
  }
  EXPECT_THAT(blocking::Shutdown(*callee_, kPatience), IsOk());
  ended.Wait();
}

TEST_F(SessionTest, CloseWaitsForTheReplyToACallThatWasBegun) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification asked, may_answer;
  ASSERT_THAT(theirs->Handle(8,
                             [&](Session& session, Received call) {
                               asked.Notify();
                               may_answer.WaitForNotification();
                               session.Reply(call.envelope, {.payload = "late"},
                                             {}, nullptr);
                             }),
              IsOk());
  absl::Notification replied, closed;
  ours->Call({.type = 8}, {}, [&](absl::StatusOr<Received> reply) {
    EXPECT_THAT(reply, IsOk());
    if (reply.ok()) {
      EXPECT_EQ(reply->message.payload, "late");
    }
    replied.Notify();
  });
  asked.WaitForNotification();
  ours->Close(kPatience, [&](absl::StatusOr<SessionReport> report) {
    EXPECT_THAT(report, IsOk());
    if (report.ok()) {
      EXPECT_THAT(report->why, IsOk());
    }
    closed.Notify();
  });
  EXPECT_THAT(blocking::Send(*ours, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  may_answer.Notify();
  replied.WaitForNotification();
  closed.WaitForNotification();
}

// The goodbye and the acknowledgement of the reply come on different ways.
TEST_F(SessionTest, AReplyThatEndsTheDrainIsDelivered) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification asked, may_answer, replied, closed;
  ASSERT_THAT(theirs->Handle(8,
                             [&](Session& session, Received call) {
                               asked.Notify();
                               may_answer.WaitForNotification();
                               session.Reply(call.envelope, {}, {},
                                             [&](absl::StatusOr<Receipt> sent) {
                                               EXPECT_THAT(sent, IsOk());
                                               replied.Notify();
                                             });
                             }),
              IsOk());
  ours->Call({.type = 8}, {}, [&](absl::StatusOr<Received> reply) {
    EXPECT_THAT(reply, IsOk());
  });
  asked.WaitForNotification();
  theirs->Close(kPatience, [&](absl::StatusOr<SessionReport> report) {
    EXPECT_THAT(report, IsOk());
    if (report.ok()) {
      EXPECT_THAT(report->why, IsOk());
    }
    closed.Notify();
  });
  may_answer.Notify();
  replied.WaitForNotification();
  closed.WaitForNotification();
}

TEST_F(SessionTest, AnErrorReplyReachesACallerWithTensorsOfItsOwn) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  ASSERT_THAT(theirs->Handle(8,
                             [](Session& session, Received call) {
                               session.ReplyError(
                                   call.envelope,
                                   absl::NotFoundError("no such layer"),
                                   nullptr);
                             }),
              IsOk());
  EXPECT_THAT(
      blocking::Call(*ours, {.type = 8},
                     {.into = {.tensors = {at::ones({3})}, .names = {"w"}}}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no such layer")));
}

// FAILED_PRECONDITION: it was begun after the end.
auto EndsAsPeersGo() {
  return AnyOf(IsOk(), StatusIs(absl::StatusCode::kUnavailable),
               StatusIs(absl::StatusCode::kCancelled),
               StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(SessionTest, PeersMayGoWhileSessionsOpenAndMove) {
  for (int round = 0; round < 5; ++round) {
    FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                               Peer::Create({.name = "hasty", .control = ""}));
    absl::BlockingCounter ended(8);
    for (int i = 0; i < 8; ++i) {
      caller->Connect(callee_->control_address(), {}, kPatience,
                      [&](absl::StatusOr<std::shared_ptr<Session>> session) {
                        EXPECT_THAT(session, EndsAsPeersGo());
                        if (session.ok()) {
                          (*session)->Send(
                              {.tensors = {at::ones({1 << 16})}}, {},
                              [kept = *session](absl::StatusOr<Receipt> sent) {
                                EXPECT_THAT(sent, EndsAsPeersGo());
                              });
                        }
                        ended.DecrementCount();
                      });
    }
    caller.reset();
    ended.Wait();
  }
}

// A thread for each task: they run in any order, and after the peer has gone.
class ThreadForEach : public Executor {
 public:
  ~ThreadForEach() override {
    while (true) {
      std::vector<std::thread> threads;
      {
        absl::MutexLock lock(&mu_);
        threads.swap(threads_);
      }
      if (threads.empty()) return;
      for (std::thread& thread : threads) thread.join();
    }
  }
  void Run(Task task) override {
    absl::MutexLock lock(&mu_);
    threads_.emplace_back(
        [task = std::move(task)]() mutable { std::move(task)(); });
  }

 private:
  absl::Mutex mu_;
  std::vector<std::thread> threads_;
};

TEST_F(SessionTest, HandlesAndHandlersOutliveTheirPeers) {
  absl::Mutex mu;
  std::vector<std::shared_ptr<Session>> kept;
  ThreadForEach executor;  // the first to go: its tasks use the others
  for (int round = 0; round < 5; ++round) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto callee, Peer::Create({.name = "callee", .executor = &executor}));
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto caller,
        Peer::Create({.name = "caller", .control = "", .executor = &executor}));
    callee->Accept([&](std::shared_ptr<Session> session) {
      session
          ->Handle(1,
                   [](Session& session, Received call) {
                     session.Reply(call.envelope, std::move(call.message), {},
                                   nullptr);
                   })
          .IgnoreError();
      absl::MutexLock lock(&mu);
      kept.push_back(std::move(session));
    });
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto ours,
        blocking::Connect(*caller, callee->control_address(), {}, kPatience));
    ASSERT_THAT(ours->Handle(2, [](Session&, Received) {}), IsOk());
    absl::BlockingCounter ended(8);
    for (int i = 0; i < 8; ++i) {
      ours->Call({.type = 1, .tensors = {at::ones({1 << 14})}}, {},
                 [&](absl::StatusOr<Received> reply) {
                   EXPECT_THAT(reply, EndsAsPeersGo());
                   ended.DecrementCount();
                 });
    }
    (round % 2 == 0 ? caller : callee).reset();
    caller.reset();
    callee.reset();
    ended.Wait();
    absl::MutexLock lock(&mu);
    kept.push_back(std::move(ours));
    for (const auto& session : kept) {
      EXPECT_THAT(blocking::Send(*session, {}),
                  StatusIs(absl::StatusCode::kFailedPrecondition));
      EXPECT_THAT(blocking::Close(*session, kPatience), IsOk());
    }
  }
}

// Threads, until it is told to hold what comes.
class ExecutorThatMayHold : public Executor {
 public:
  void Run(Task task) override {
    Executor& taker = hold ? static_cast<Executor&>(held) : threads_;
    taker.Run(std::move(task));
  }

  std::atomic<bool> hold = false;
  HeldExecutor held;

 private:
  ThreadPool threads_{2};
};

TEST_F(SessionTest, APeerMayGoBeforeItHearsThatItsLanesAreUp) {
  ExecutorThatMayHold executor;
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto caller,
      Peer::Create({.name = "caller", .control = "", .executor = &executor}));
  executor.hold = true;
  absl::Status status;
  caller->Connect(callee_->control_address(), {}, kPatience,
                  [&](absl::StatusOr<std::shared_ptr<Session>> session) {
                    status = session.status();
                  });
  ASSERT_TRUE(executor.held.AwaitOne());
  caller.reset();
  executor.held.RunAll();
  executor.hold = false;
  EXPECT_THAT(status, EndsAsPeersGo());
  EXPECT_FALSE(status.ok());
}

TEST_F(SessionTest, WhatWasAcknowledgedIsHandledThoughTheSessionHasEnded) {
  std::vector<std::string> handled;
  absl::Notification handles;
  ExecutorThatMayHold executor;
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto callee, Peer::Create({.name = "callee", .executor = &executor}));
  const absl::Cleanup go_on = [&] {
    executor.hold = false;
    executor.held.RunAll();
  };
  callee->Accept([&](std::shared_ptr<Session> session) {
    session
        ->Handle(1,
                 [&](Session&, Received got) {
                   handled.push_back(got.message.payload);
                   if (handled.size() == 1) handles.Notify();
                 })
        .IgnoreError();
    session->OnEnd([session](SessionReport) {});  // the last to hold it
  });
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto ours,
      blocking::Connect(*caller_, callee->control_address(), {}, kPatience));
  ASSERT_THAT(blocking::Send(*ours, {.type = 1, .payload = "first"}), IsOk());
  handles.WaitForNotification();
  executor.hold = true;
  ASSERT_THAT(blocking::Send(*ours, {.type = 1, .payload = "last words"}),
              IsOk());
  ours.reset();
  // The message, what else the handler waited for, the end of the link.
  ASSERT_TRUE(executor.held.Await(5));
  executor.hold = false;
  // As a pool may if one of its threads is held up.
  while (executor.held.waiting() > 1) executor.held.RunNewest();
  // Another session: the loop is done with the one that ended.
  EXPECT_THAT(
      blocking::Connect(*caller_, callee->control_address(), {}, kPatience),
      IsOk());
  executor.held.RunAll();
  EXPECT_THAT(handled, ElementsAre("first", "last words"));
}

TEST_F(SessionTest, ListSessionsCountsBytes) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto ours, Connect());
  auto theirs = Accepted(0);
  ASSERT_NE(theirs, nullptr);
  absl::Notification received;
  theirs->Receive({}, [&](absl::StatusOr<Received> message) {
    EXPECT_THAT(message, IsOk());
    received.Notify();
  });
  ASSERT_THAT(blocking::Send(*ours, {.tensors = {at::ones({1 << 20})}}),
              IsOk());
  received.WaitForNotification();
  auto records = callee_->ListSessions();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].id, ours->id());
  EXPECT_GE(records[0].bytes_received, uint64_t{4} << 20);
}

TEST_F(SessionTest, ConnectEndsAtItsDeadline) {
  // A port that is bound but never answers: its backlog takes the connection.
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {.sin_family = AF_INET, .sin_port = 0};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  EXPECT_THAT(blocking::Connect(
                  *caller_, absl::StrCat("127.0.0.1:", ntohs(address.sin_port)),
                  {}, absl::Milliseconds(200)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  close(fd);
}

TEST(PeerTest, WorksOnTheUsersOwnServer) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  FERRY_ASSERT_OK_AND_ASSIGN(auto callee,
                             Peer::CreateOn(builder, {.name = "guest"}));
  EXPECT_EQ(callee->control_address(), "");
  callee->Accept([](std::shared_ptr<Session> session) {
    session->OnEnd([session](SessionReport) {});  // keeps it until it ends
  });
  auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                             Peer::Create({.name = "caller", .control = ""}));
  {
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto session,
        blocking::Connect(*caller, absl::StrCat("127.0.0.1:", port), {},
                          kPatience));
  }
  EXPECT_THAT(blocking::Shutdown(*callee, absl::ZeroDuration()), IsOk());
  server->Shutdown();
}

// The bytes of a HealthCheckResponse.
std::string Health(const std::string& address) {
  grpc::GenericStub stub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  grpc::ByteBuffer request, response;
  grpc::Slice empty;
  request = grpc::ByteBuffer(&empty, 1);
  absl::Notification done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(),
                 &request, &response, [&](grpc::Status status) {
                   EXPECT_TRUE(status.ok()) << status.error_message();
                   done.Notify();
                 });
  done.WaitForNotification();
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok()) return "";
  return std::string(reinterpret_cast<const char*>(slice.begin()),
                     slice.size());
}

TEST(PeerTest, IsNotServingOnceItShutsDown) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto peer, Peer::Create({.name = "peer"}));
  EXPECT_EQ(Health(peer->control_address()), "\x08\x01");
  EXPECT_THAT(blocking::Shutdown(*peer, absl::ZeroDuration()), IsOk());
  EXPECT_EQ(Health(peer->control_address()), "\x08\x02");
}

// Opens a session between two peers and sends one tensor over it.
absl::Status SendNamed(Peer& caller, Peer& callee, std::string name) {
  std::shared_ptr<Session> theirs;
  absl::Notification accepted;
  callee.Accept([&](std::shared_ptr<Session> session) {
    theirs = std::move(session);
    accepted.Notify();
  });
  auto ours =
      blocking::Connect(caller, callee.control_address(), {}, kPatience);
  if (!ours.ok()) return ours.status();
  accepted.WaitForNotification();
  theirs->Receive({}, [](absl::StatusOr<Received> message) {
    EXPECT_THAT(message, IsOk());
  });
  return blocking::Send(
             **ours, {.tensors = {at::ones({3})}, .names = {std::move(name)}})
      .status();
}

TEST(PeerTest, LimitsThatBothRaiseAreRaised) {
  const std::string name(Limits().name_bytes + 1, 'n');
  Limits raised;
  raised.name_bytes *= 2;
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto callee, Peer::Create({.name = "callee", .limits = raised}));
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto caller,
      Peer::Create({.name = "caller", .control = "", .limits = raised}));
  EXPECT_THAT(SendNamed(*caller, *callee, name), IsOk());
}

TEST(PeerTest, WorksOverAUnixSocket) {
  testing::TestFolder there(testing::TestFolder::kForSockets);
  for (const char* prefix : {"unix:", "unix://"}) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto callee,
        Peer::Create({.name = "callee",
                      .control = absl::StrCat(prefix, there.Path("peer"))}));
    FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                               Peer::Create({.name = "caller", .control = ""}));
    EXPECT_THAT(SendNamed(*caller, *callee, "n"), IsOk());
  }
}

TEST(PeerTest, LeavesAUnixSocketToWhoListensThere) {
  testing::TestFolder there(testing::TestFolder::kForSockets);
  const std::string address = absl::StrCat("unix:", there.Path("peer"));
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto first, Peer::Create({.name = "first", .control = address}));
  EXPECT_THAT(Peer::Create({.name = "second", .control = address}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(address), HasSubstr("in use"))));
  FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                             Peer::Create({.name = "caller", .control = ""}));
  EXPECT_THAT(SendNamed(*caller, *first, "n"), IsOk());
}

// As a process that was killed leaves it.
TEST(PeerTest, ReplacesAUnixSocketThatNobodyListensOn) {
  testing::TestFolder there(testing::TestFolder::kForSockets);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  there.Path("peer").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  close(fd);
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto peer,
      Peer::Create({.name = "peer",
                    .control = absl::StrCat("unix:", there.Path("peer"))}));
  EXPECT_EQ(peer->control_address(), absl::StrCat("unix:", there.Path("peer")));
}

TEST(PeerTest, RefusesNamesAndNumbersThatCannotWork) {
  struct Case {
    std::string field;
    PeerOptions options;
  };
  for (const Case& c : std::vector<Case>{
           {"name has a control character", {.name = "x\x1b[2J"}},
           {"name is not UTF-8", {.name = "\xff"}},
           {"lease is 0", {.name = "x", .lease = absl::ZeroDuration()}},
           {"lease is 2h", {.name = "x", .lease = absl::Hours(2)}},
           {"heartbeat is 8s", {.name = "x", .heartbeat = absl::Seconds(8)}},
           {"heartbeat is 0", {.name = "x", .heartbeat = absl::ZeroDuration()}},
           {"max_sessions is 0", {.name = "x", .max_sessions = 0}},
           {"max_sessions is 5000", {.name = "x", .max_sessions = 5000}},
           {"PeerOptions.max_handshakes_per_address is 0",
            {.name = "x", .max_handshakes_per_address = 0}},
           {"PeerOptions.max_connections_per_session is 0",
            {.name = "x", .max_connections_per_session = 0}},
       }) {
    EXPECT_THAT(
        Peer::Create(c.options),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.field)));
  }
}

TEST(PeerTest, RefusesWhatItCannotServe) {
  EXPECT_THAT(Peer::Create({.name = ""}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  EXPECT_THAT(
      Peer::Create({.name = "x", .control = "0.0.0.0:0"}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loopback")));
  EXPECT_THAT(Peer::Create({.name = "x", .control = "not an address"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Peer::Create({.name = "x", .data = "8.8.8.8"}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loopback")));
  FERRY_ASSERT_OK_AND_ASSIGN(auto first, Peer::Create({.name = "first"}));
  EXPECT_THAT(
      Peer::Create({.name = "second", .control = first->control_address()}),
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr(first->control_address())));
}

TEST(PeerTest, WithoutAcceptItRefusesSessions) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto callee, Peer::Create({.name = "callee"}));
  FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                             Peer::Create({.name = "caller", .control = ""}));
  EXPECT_THAT(
      blocking::Connect(*caller, callee->control_address(), {}, kPatience),
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr("accepts no sessions")));
}

}  // namespace
}  // namespace tensorferry
