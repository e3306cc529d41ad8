// One of two processes is killed or stopped; the other tells so in time, holds
// nothing of it and goes on. Times have slack for slow machines; what they were
// is printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/reliability/paths.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/witness.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::AvailableMemory;
using ::tensorferry::testing::CpuPaths;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::PathName;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Witness;
using ::testing::HasSubstr;

using absl::StatusCode;

constexpr absl::Duration kAtOnce = absl::Seconds(10);  // the claim is 1 s
constexpr absl::Duration kSlack = absl::Seconds(1);    // the claim is 100 ms
constexpr int64_t kMoving = 32 << 20;  // bytes after which it is under way

// 1 GiB on either side, where there is room for it.
int64_t Large() {
  return AvailableMemory() > (uint64_t{8} << 30) ? 1 << 30 : 256 << 20;
}

std::unique_ptr<RemotePeer> StartPeer(
    const std::vector<std::string>& arguments) {
  auto peer = RemotePeer::Start(arguments);
  EXPECT_THAT(peer, IsOk());
  return peer.ok() ? *std::move(peer) : nullptr;
}

void Print(const char* what, absl::Duration time) {
  std::cout << what << ": " << absl::FormatDuration(time) << std::endl;
}

class PeerFailureTest : public ::testing::TestWithParam<std::string> {
 protected:
  // A survivor that listens, a witness of it, and a victim with a session to
  // it, which is used.
  void Meet(const std::vector<std::string>& survivor = {"name=survivor"}) {
    survivor_ = StartPeer(survivor);
    ASSERT_NE(survivor_, nullptr);
    witness_ = std::make_unique<Witness>(*survivor_);
    victim_ = StartPeer({"name=victim", "control=none"});
    ASSERT_NE(victim_, nullptr);
    auto connected =
        victim_->Ask("connect", survivor_->address(), GetParam(), 30000);
    ASSERT_THAT(connected.status(), IsOk());
    victims_ = connected.number();
    // The accepted sessions come in order; the victim's is the last.
    absl::StatusOr<RemotePeer::Event> accepted;
    for (auto next = survivor_->NextEvent("accepted"); next.ok();
         next = survivor_->NextEvent("accepted", absl::Milliseconds(200))) {
      accepted = next;
    }
    ASSERT_THAT(accepted, IsOk());
    survivors_ = accepted->session;
    while (survivor_->NextEvent("ended", absl::ZeroDuration()).ok()) {
    }
    while (survivor_->NextEvent("lost", absl::ZeroDuration()).ok()) {
    }
  }

  // Returns when much of a large message from `sender` has arrived at
  // `receiver`, or left.
  RemotePeer::Answer SendMuch(RemotePeer& sender, int64_t session,
                              int64_t timeout_ms) {
    auto moving = survivor_->Ask("watch", kMoving);
    auto sent = sender.Ask("send", session, 1, Large(), timeout_ms);
    EXPECT_THAT(moving.status(), IsOk());
    return sent;
  }

  void ExpectNothingPartial() {
    EXPECT_THAT(survivor_->Ask("stats").text(),
                HasSubstr("corrupt=0 misordered=0"));
  }

  // Before the peers that it looks at.
  std::unique_ptr<RemotePeer> survivor_, victim_;
  std::unique_ptr<Witness> witness_;
  int64_t victims_ = 0, survivors_ = 0;  // the session, on either side
};

TEST_P(PeerFailureTest, KilledSenderIsUnavailableAndNothingOfItIsSeen) {
  ASSERT_NO_FATAL_FAILURE(Meet());
  SendMuch(*victim_, victims_, 60000);
  const absl::Time killed = absl::Now();
  victim_->Kill();
  FERRY_ASSERT_OK_AND_ASSIGN(auto lost, survivor_->NextEvent("lost"));
  FERRY_ASSERT_OK_AND_ASSIGN(auto ended, survivor_->NextEvent("ended"));
  Print("killed to told", ended.at - killed);
  EXPECT_THAT(lost.status, StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(ended.status, StatusIs(StatusCode::kUnavailable));
  EXPECT_LT(ended.at - killed, kAtOnce);
  EXPECT_THAT(survivor_->Ask("stats").text(), HasSubstr("received=0"));
  ExpectNothingPartial();
  witness_->ExpectUnharmed();
}

TEST_P(PeerFailureTest, KilledReceiverIsUnavailable) {
  ASSERT_NO_FATAL_FAILURE(Meet());
  auto sent = SendMuch(*survivor_, survivors_, 60000);
  const absl::Time killed = absl::Now();
  victim_->Kill();
  EXPECT_THAT(sent.status(), StatusIs(StatusCode::kUnavailable));
  Print("killed to told", sent.at() - killed);
  EXPECT_LT(sent.at() - killed, kAtOnce);
  FERRY_ASSERT_OK_AND_ASSIGN(auto ended, survivor_->NextEvent("ended"));
  EXPECT_THAT(ended.status, StatusIs(StatusCode::kUnavailable));
  witness_->ExpectUnharmed();
}

TEST_P(PeerFailureTest, SendToAStoppedReceiverEndsAtItsDeadline) {
  ASSERT_NO_FATAL_FAILURE(Meet());
  constexpr int kTimeoutMs = 4000;  // the first bytes go well before
  auto moving = survivor_->Ask("watch", kMoving);
  auto sent = survivor_->Ask("send", survivors_, 100, Large(), kTimeoutMs);
  EXPECT_THAT(moving.status(), IsOk());
  victim_->Stop();
  const absl::Status status = sent.status();
  EXPECT_THAT(status, StatusIs(StatusCode::kDeadlineExceeded));
  const std::pair<std::string, std::string> text_and_ms =
      absl::StrSplit(status.message(), absl::MaxSplits(" after_ms=", 1));
  int took_ms = 0;
  ASSERT_TRUE(absl::SimpleAtoi(text_and_ms.second, &took_ms)) << status;
  const absl::Duration late = absl::Milliseconds(took_ms - kTimeoutMs);
  Print("later than the deadline", late);
  EXPECT_LT(late, kSlack);
  victim_->Kill();
  EXPECT_THAT(survivor_->NextEvent("ended"), IsOk());
  witness_->ExpectUnharmed();
}

TEST_P(PeerFailureTest, SilenceOfAStoppedPeerEndsTheSession) {
  ASSERT_NO_FATAL_FAILURE(Meet({"name=survivor", "lease=2"}));
  SendMuch(*victim_, victims_, 60000);
  const absl::Time stopped = absl::Now();
  victim_->Stop();
  FERRY_ASSERT_OK_AND_ASSIGN(auto lost, survivor_->NextEvent("lost"));
  Print("stopped to told, with a lease of 2 s", lost.at - stopped);
  EXPECT_THAT(lost.status, StatusIs(StatusCode::kUnavailable));
  EXPECT_LT(lost.at - stopped, absl::Seconds(15));
  ExpectNothingPartial();
  victim_->Continue();
  FERRY_ASSERT_OK_AND_ASSIGN(auto told, victim_->NextEvent("ended"));
  EXPECT_THAT(told.status, StatusIs(StatusCode::kUnavailable));
  witness_->ExpectUnharmed();
}

TEST_P(PeerFailureTest, TransferGoesOnWhenAStoppedPeerContinues) {
  ASSERT_NO_FATAL_FAILURE(Meet());
  auto sent = SendMuch(*victim_, victims_, 60000);
  victim_->Stop();
  // Long enough that somebody else has given up on it.
  EXPECT_THAT(survivor_->Ask("echo", survivors_, 1, 4096, 2000).status(),
              StatusIs(StatusCode::kDeadlineExceeded));
  victim_->Continue();
  EXPECT_THAT(sent.status(), IsOk());
  EXPECT_THAT(survivor_->Ask("stats").text(),
              HasSubstr("received=1 corrupt=0"));
  EXPECT_THAT(victim_->Ask("close", victims_, 30000).status(), IsOk());
  witness_->ExpectUnharmed();
}

TEST_P(PeerFailureTest, RestartedPeerIsReachedAtItsOldAddress) {
  auto server = StartPeer({"name=server"});
  auto client = StartPeer({"name=client", "control=none"});
  ASSERT_TRUE(server != nullptr && client != nullptr);
  const std::string address = server->address();
  auto session = client->Ask("connect", address, GetParam(), 30000);
  ASSERT_THAT(session.status(), IsOk());
  auto moving = client->Ask("watch", kMoving);
  auto sent = client->Ask("send", session.number(), 1, Large(), 60000);
  ASSERT_THAT(moving.status(), IsOk());
  server->Kill();
  EXPECT_THAT(sent.status(), StatusIs(StatusCode::kUnavailable));

  const absl::Time restarted = absl::Now();
  server = StartPeer({"name=server", absl::StrCat("control=", address)});
  ASSERT_NE(server, nullptr);
  EXPECT_THAT(client->Ask("churn", address, GetParam(), 1, 1 << 20).status(),
              IsOk());
  Print("restart to new session used", absl::Now() - restarted);
}

TEST_P(PeerFailureTest, WhatWasAcknowledgedHadArrivedBeforeTheSenderWasKilled) {
  ASSERT_NO_FATAL_FAILURE(Meet());
  auto sent = victim_->Ask("send", victims_, 50, 1 << 20, 60000);
  ASSERT_THAT(sent.status(), IsOk());
  victim_->Kill();
  EXPECT_THAT(survivor_->Ask("stats").text(),
              HasSubstr("received=50 corrupt=0 misordered=0"));
}

INSTANTIATE_TEST_SUITE_P(Paths, PeerFailureTest,
                         ::testing::ValuesIn(CpuPaths()), PathName);

}  // namespace
}  // namespace tensorferry
