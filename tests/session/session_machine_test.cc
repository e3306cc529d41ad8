#include "session/session_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using Kind = SessionAction::Kind;
using State = SessionMachine::State;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNow = absl::UnixEpoch();

class SessionMachineTest : public ::testing::Test {
 protected:
  // What it asked for since the last call.
  std::vector<Kind> Asked() {
    std::vector<Kind> kinds;
    for (const SessionAction& action : out_) kinds.push_back(action.kind);
    out_.clear();
    return kinds;
  }
  void Open() {
    machine_.OnStream(out_);
    machine_.OnLink(out_);
    machine_.OnCalleeReady(out_);
    ASSERT_THAT(Asked(), ElementsAre(Kind::kTellOpen));
  }

  SessionMachine machine_;
  SessionMachine::Actions out_;
};

TEST_F(SessionMachineTest, OpensOnceLinkAndCalleeAreReady) {
  machine_.OnStream(out_);
  machine_.OnCalleeReady(out_);
  EXPECT_THAT(Asked(), IsEmpty());
  machine_.OnLink(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kTellOpen));
  EXPECT_TRUE(machine_.live());
}

TEST_F(SessionMachineTest, SaysGoodbyeBeforeItClosesTheLink) {
  Open();
  machine_.End(absl::OkStatus(), out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kAnnounceEnd, Kind::kSayGoodbye));
  machine_.OnStreamEnded(kNow, absl::OkStatus(), out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kCloseLink));
  machine_.OnLinkClosed(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kFinish));
  EXPECT_EQ(machine_.state(), State::kEnded);
}

TEST_F(SessionMachineTest, TheFirstReasonCounts) {
  Open();
  machine_.OnStreamEnded(kNow, absl::UnavailableError("silent"), out_);
  machine_.End(absl::InternalError("later"), out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kAnnounceEnd, Kind::kCloseLink));
  EXPECT_THAT(machine_.why(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SessionMachineTest, WhatIsNotOpenInTimeEnds) {
  machine_.OpenBy(kNow + absl::Seconds(5), absl::DeadlineExceededError("late"));
  EXPECT_EQ(machine_.next_deadline(), kNow + absl::Seconds(5));
  machine_.OnTime(kNow + absl::Seconds(5), out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kTellNotOpen, Kind::kFinish));
  EXPECT_THAT(machine_.why(), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(machine_.next_deadline(), absl::InfiniteFuture());
}

TEST_F(SessionMachineTest, AStreamThatComesTooLateHearsWhy) {
  machine_.End(absl::CancelledError("no longer wanted"), out_);
  Asked();
  EXPECT_FALSE(machine_.OnStream(out_));
  EXPECT_THAT(Asked(), ElementsAre(Kind::kSayGoodbye));
  EXPECT_FALSE(machine_.OnLink(out_));
}

TEST_F(SessionMachineTest, DrainAsksThePeerOnceItsOwnIsThrough) {
  Open();
  machine_.OnCallBegun();
  machine_.Close(kNow, kNow + absl::Seconds(5), absl::CancelledError("late"),
                 out_);
  machine_.OnLinkDrained(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kDrainLink));
  machine_.OnCallEnded(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kSayDrain));
  machine_.OnPeerDrains(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kAnnounceEnd, Kind::kSayGoodbye));
}

TEST_F(SessionMachineTest, ADrainThatIsAskedForWhileItOpensIsNotForgotten) {
  machine_.OnStream(out_);
  machine_.OnCalleeReady(out_);
  machine_.OnPeerDrains(out_);
  EXPECT_THAT(Asked(), IsEmpty());
  machine_.OnLink(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kTellOpen, Kind::kDrainLink));
}

TEST_F(SessionMachineTest, LastWordsOfADrainAreAwaitedForTwoSeconds) {
  Open();
  machine_.OnPeerDrains(out_);
  machine_.OnLinkDrained(out_);
  machine_.OnStreamEnded(kNow, absl::OkStatus(), out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kDrainLink, Kind::kAnnounceEnd,
                                   Kind::kSayGoodbye, Kind::kLastWords));
  machine_.OnTime(kNow + absl::Seconds(2), out_);
  machine_.OnLastWordsSaid(out_);
  EXPECT_THAT(Asked(), ElementsAre(Kind::kCloseLink));
}

TEST_F(SessionMachineTest, ADrainThatTakesTooLongIsCancelled) {
  Open();
  machine_.Close(kNow, kNow + absl::Seconds(9), absl::CancelledError("late"),
                 out_);
  machine_.Close(kNow, kNow + absl::Seconds(5), absl::CancelledError("late"),
                 out_);
  EXPECT_EQ(machine_.next_deadline(), kNow + absl::Seconds(5));
  machine_.OnTime(kNow + absl::Seconds(5), out_);
  EXPECT_THAT(machine_.why(), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace tensorferry
