// What processes do to each other: they stop, die, fork, run out of memory.
// This test and a child of it, over real sockets.
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "control/control_client.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "session/reconnect.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AnyOf;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr uint32_t kEcho = 1;
constexpr uint32_t kLimitMemory = 2;
constexpr int64_t kMebibyte = int64_t{1} << 20;

// No more address space than there is now, and a little.
void LimitMemory() {
  long pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%ld", &pages) != 1) std::abort();
  std::fclose(file);
  rlimit limit{};
  limit.rlim_cur = limit.rlim_max =
      static_cast<rlim_t>(pages) * sysconf(_SC_PAGESIZE) + 64 * kMebibyte;
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::abort();
}

void Serve(Session& session, Received call) {
  if (call.message.type == kLimitMemory) LimitMemory();
  session.Reply(call.envelope, {.tensors = std::move(call.message.tensors)}, {},
                nullptr);
}

// The child: serves until its standard input closes.
int RunChild(const std::string& control) {
  auto peer = Peer::Create({.name = "child", .control = control});
  if (!peer.ok()) return 1;
  (*peer)->Accept([](std::shared_ptr<Session> session) {
    for (uint32_t type : {kEcho, kLimitMemory}) {
      if (!session->Handle(type, Serve).ok()) return;
    }
    session->OnEnd([session](SessionReport) {});
  });
  testing::WriteLine((*peer)->control_address());
  testing::AwaitInputClosed();
  return 0;
}

class FaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FERRY_ASSERT_OK_AND_ASSIGN(auto child,
                               ChildProcess::Start({"--child", "127.0.0.1:0"}));
    child_ = std::make_unique<ChildProcess>(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(address_, child_->ReadLine());
    StartPeer(absl::Seconds(15));
  }
  void StartPeer(absl::Duration lease) {
    FERRY_ASSERT_OK_AND_ASSIGN(peer_, Peer::Create({.name = "parent",
                                                    .control = "",
                                                    .heartbeat = lease / 5,
                                                    .lease = lease}));
  }
  absl::StatusOr<std::shared_ptr<Session>> Connect(
      absl::Duration timeout = kPatience) {
    return blocking::Connect(*peer_, address_, {}, timeout);
  }
  static TensorMessage Megabytes(int count) {
    return {.type = kEcho,
            .tensors = {at::zeros({count * kMebibyte}, at::kByte)}};
  }

  std::unique_ptr<ChildProcess> child_;
  std::string address_;
  std::unique_ptr<Peer> peer_;
};

TEST_F(FaultTest, AStoppedPeerIsUnavailableAfterTheLease) {
  StartPeer(absl::Seconds(1));
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  absl::Notification ended;
  absl::Status why;
  session->OnEnd([&](SessionReport report) {
    why = report.why;
    ended.Notify();
  });
  child_->Stop();
  const absl::Time stopped = absl::Now();
  ended.WaitForNotification();
  EXPECT_LT(absl::Now() - stopped, absl::Seconds(10));
  EXPECT_THAT(why, StatusIs(absl::StatusCode::kUnavailable));
  child_->Signal(SIGCONT);
}

TEST_F(FaultTest, ACallToAStoppedPeerEndsAtItsDeadline) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  child_->Stop();
  EXPECT_THAT(blocking::Call(*session, Megabytes(64),
                             {.timeout = absl::Milliseconds(300)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  child_->Signal(SIGCONT);
}

TEST_F(FaultTest, APeerThatGoesOnInTimeAnswers) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  child_->Stop();
  absl::Notification answered;
  session->Call(Megabytes(64), {.timeout = kPatience},
                [&](absl::StatusOr<Received> reply) {
                  EXPECT_THAT(reply, IsOk());
                  answered.Notify();
                });
  // It stands still for as long as another call takes to give up.
  EXPECT_THAT(blocking::Call(*session, {.type = kEcho},
                             {.timeout = absl::Milliseconds(300)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  child_->Signal(SIGCONT);
  answered.WaitForNotification();
}

TEST_F(FaultTest, ConnectToAStoppedPeerEndsAtItsTimeout) {
  child_->Stop();
  EXPECT_THAT(Connect(absl::Milliseconds(300)),
              AnyOf(StatusIs(absl::StatusCode::kDeadlineExceeded),
                    StatusIs(absl::StatusCode::kUnavailable)));
  child_->Signal(SIGCONT);
}

TEST_F(FaultTest, ADyingPeerRaisesNoSigpipe) {
  signal(SIGPIPE, SIG_DFL);
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  absl::Notification ended;
  session->Send(Megabytes(256), {.timeout = kPatience},
                [&](absl::StatusOr<Receipt> receipt) {
                  EXPECT_FALSE(receipt.ok());
                  ended.Notify();
                });
  child_->Signal(SIGKILL);
  ended.WaitForNotification();
}

TEST_F(FaultTest, AKeptSessionIsOpenedAgainWhenItsPeerIsBack) {
  absl::Mutex mu;
  std::vector<std::shared_ptr<Session>> opened;
  absl::Notification stopped;
  absl::Status why;
  auto await_opened = [&](size_t count) {
    absl::MutexLock lock(&mu);
    auto there = [&] { return opened.size() >= count; };
    return mu.AwaitWithTimeout(absl::Condition(&there), kPatience);
  };
  KeptSession kept(
      peer_.get(), address_, {},
      {.back_off = {.first = absl::Milliseconds(10)}},
      [&](std::shared_ptr<Session> session) {
        absl::MutexLock lock(&mu);
        opened.push_back(std::move(session));
      },
      [&](absl::Status status) {
        why = std::move(status);
        stopped.Notify();
      });
  ASSERT_TRUE(await_opened(1));
  child_->Signal(SIGKILL);
  child_->Wait();
  FERRY_ASSERT_OK_AND_ASSIGN(auto successor,
                             ChildProcess::Start({"--child", address_}));
  ASSERT_THAT(successor.ReadLine(), IsOk());
  ASSERT_TRUE(await_opened(2));
  EXPECT_THAT(blocking::Call(*opened.back(), {.type = kEcho}), IsOk());
  // Closed as wished: that is the end.
  EXPECT_THAT(blocking::Close(*opened.back(), kPatience), IsOk());
  stopped.WaitForNotification();
  EXPECT_THAT(why, IsOk());
}

TEST_F(FaultTest, AReceiverWithoutMemorySaysSoAndLivesOn) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  ASSERT_THAT(blocking::Call(*session, {.type = kLimitMemory}), IsOk());
  EXPECT_THAT(blocking::Call(*session, Megabytes(512)),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(blocking::Call(*session, Megabytes(1)), IsOk());
}

// Everything that a user can do with the parent's objects, and then exit; the
// number of what was wrong.
int UseInChild(std::unique_ptr<Peer> peer, std::shared_ptr<Session> session,
               std::unique_ptr<KeptSession> kept,
               std::unique_ptr<ControlClient> client, Operation pending,
               std::string address) {
  alarm(60);
  int refused = 0;
  auto count = [&](const absl::Status& status) {
    refused += absl::IsFailedPrecondition(status);
  };
  session->Send({}, {}, [&](auto sent) { count(sent.status()); });
  session->Receive({}, [&](auto received) { count(received.status()); });
  session->Call({}, {}, [&](auto reply) { count(reply.status()); });
  session->Reply({}, {}, {}, [&](auto sent) { count(sent.status()); });
  session->ReplyError({}, absl::InternalError(""),
                      [&](auto sent) { count(sent.status()); });
  count(session->Handle(77, [](Session&, Received) {}));
  session->OnEnd([&](SessionReport report) { count(report.why); });
  session->Close(absl::Seconds(1),
                 [&](auto report) { count(report.status()); });
  session->counters();
  pending.Cancel();
  peer->Connect(address, {}, kPatience,
                [&](auto opened) { count(opened.status()); });
  peer->Explain(address, {}, kPatience,
                [&](auto explained) { count(explained.status()); });
  peer->Shutdown(absl::Seconds(1), [&](auto shut) { count(shut); });
  client->GetCapabilities(kPatience, [&](auto got) { count(got.status()); });
  client->Explain({}, {}, kPatience, [&](auto got) { count(got.status()); });
  client->ListSessions(kPatience, [&](auto got) { count(got.status()); });
  client->CloseSession("", kPatience, [&](auto closed) { count(closed); });
  client->OpenSession({}, {}, nullptr, kPatience,
                      [&](auto opened) { count(opened.status()); });
  peer->ListSessions();
  peer->GetCapabilities();
  if (session->remote_grants().sessions != 0) return 1;
  constexpr int kCalls = 16;
  if (refused != kCalls) return kCalls - refused;
  kept = nullptr;
  client = nullptr;
  session = nullptr;
  peer = nullptr;
  return 0;
}

TEST_F(FaultTest, AForkedChildIsRefusedAtOnceAndTheParentGoesOn) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect());
  absl::Notification cancelled;
  Operation pending = session->Receive({}, [&](absl::StatusOr<Received> got) {
    EXPECT_THAT(got, StatusIs(absl::StatusCode::kCancelled));
    cancelled.Notify();
  });
  auto kept = std::make_unique<KeptSession>(
      peer_.get(), "127.0.0.1:1", Offer(),
      ReconnectOptions{
          .back_off = {.first = absl::Hours(1), .longest = absl::Hours(1)}},
      [](std::shared_ptr<Session>) {}, [](absl::Status) {});
  FERRY_ASSERT_OK_AND_ASSIGN(auto client, ControlClient::Create(address_));
  client->ListSessions(kPatience, [](auto) {});
  const pid_t forked = fork();
  ASSERT_GE(forked, 0);
  if (forked == 0) {
    _exit(UseInChild(std::move(peer_), std::move(session), std::move(kept),
                     std::move(client), std::move(pending), address_));
  }
  int status = -1;
  ASSERT_EQ(waitpid(forked, &status, 0), forked);  // its alarm bounds this
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(blocking::Call(*session, Megabytes(1)), IsOk());
  pending.Cancel();
  cancelled.WaitForNotification();
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--child") == 0) {
    return tensorferry::RunChild(argv[2]);
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
