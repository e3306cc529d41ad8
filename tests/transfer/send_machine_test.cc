#include "transfer/send_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tensorferry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ToString(const SendAction& action) {
  using Kind = SendAction::Kind;
  switch (action.kind) {
    case Kind::kHeader:
      return absl::StrCat("header ", action.operation);
    case Kind::kDigest:
      return absl::StrCat("digest ", action.operation);
    case SendAction::Kind::kCopyBody:
      return absl::StrCat("copy ", action.operation, ".", action.body);
    case Kind::kWriteBody:
      return absl::StrCat("write ", action.operation, ".", action.body,
                          " attempt ", action.attempt, " lane ", action.lane,
                          ".", action.generation);
    case Kind::kTrailer:
      return absl::StrCat("trailer ", action.operation);
    case Kind::kCancelFrame:
      return absl::StrCat("cancel ", action.operation);
    case Kind::kResetLane:
      return absl::StrCat("reset lane ", action.lane, ".", action.generation);
    case Kind::kFinish:
      return absl::StrCat("finish ", action.operation, " ",
                          absl::StatusCodeToString(action.status.code()));
    case Kind::kEndLink:
      return absl::StrCat("end: ", action.status.message());
  }
  return "?";
}

class SendMachineTest : public ::testing::Test {
 protected:
  void Make(SendMachine::Settings settings) {
    machine_ = std::make_unique<SendMachine>(settings);
    Did([&](auto& out) { machine_->OnUp(out); });
    for (int lane = 1; lane <= settings.body_lanes; ++lane) {
      Did([&](auto& out) { machine_->OnLaneUp(lane, 1, out); });
    }
  }

  // What the machine wants done for an event.
  template <class Event>
  std::vector<std::string> Did(Event event) {
    SendMachine::Actions actions;
    event(actions);
    std::vector<std::string> texts;
    for (const SendAction& action : actions) texts.push_back(ToString(action));
    return texts;
  }

  std::vector<std::string> Submit(OperationId id, std::vector<uint64_t> bodies,
                                  bool eager = false) {
    SendMachine::Request request;
    request.is_inline = bodies.empty();
    request.may_be_eager = eager;
    request.body_nbytes = bodies;
    for (uint64_t nbytes : bodies) request.nbytes += nbytes;
    request.deadline = absl::UnixEpoch() + absl::Seconds(10);
    return Did([&](auto& out) { machine_->Submit(id, request, out); });
  }
  std::vector<std::string> Grant(OperationId id) {
    return Did([&](auto& out) { machine_->OnGrant(id, out); });
  }
  std::vector<std::string> Ack(OperationId id, absl::Status status = {}) {
    return Did([&](auto& out) { machine_->OnAck(id, status, out); });
  }
  std::vector<std::string> Written(int lane, OperationId id, uint32_t body,
                                   bool ok = true) {
    return Did(
        [&](auto& out) { machine_->OnBodyWritten(lane, id, body, ok, out); });
  }
  std::vector<std::string> Copied(OperationId id, uint32_t body) {
    return Did(
        [&](auto& out) { machine_->OnBodyCopied(id, body, /*ok=*/true, out); });
  }
  std::vector<std::string> Cancel(OperationId id) {
    return Did([&](auto& out) {
      machine_->Cancel(id, absl::CancelledError(""), out);
    });
  }

  static SendMachine::Settings OneLane() {
    SendMachine::Settings settings;
    settings.digests = false;
    settings.writes_per_lane = 1;
    settings.limits.eager_bytes = 100;
    return settings;
  }

  std::unique_ptr<SendMachine> machine_;
};

TEST_F(SendMachineTest, InlineMessageIsAHeaderAndAnAck) {
  Make(OneLane());
  EXPECT_THAT(Submit(1, {}), ElementsAre("header 1"));
  EXPECT_THAT(Ack(1), ElementsAre("finish 1 OK"));
  EXPECT_TRUE(machine_->idle());
}

TEST_F(SendMachineTest, NothingLeavesBeforeTheLinkIsUp) {
  machine_ = std::make_unique<SendMachine>(OneLane());
  EXPECT_THAT(Submit(1, {}), IsEmpty());
  EXPECT_THAT(Submit(2, {}), IsEmpty());
  EXPECT_THAT(Did([&](auto& out) { machine_->OnUp(out); }),
              ElementsAre("header 1", "header 2"));
}

TEST_F(SendMachineTest, BodiesWaitForTheGrantAndTheTrailerForTheBodies) {
  Make(OneLane());
  EXPECT_THAT(Submit(1, {10, 20}), ElementsAre("header 1"));
  EXPECT_THAT(Grant(1), ElementsAre("write 1.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("write 1.1 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("trailer 1"));
  EXPECT_THAT(Ack(1), ElementsAre("finish 1 OK"));
}

TEST_F(SendMachineTest, TrailerWaitsForTheDigest) {
  SendMachine::Settings settings = OneLane();
  settings.digests = true;
  Make(settings);
  Submit(1, {10});
  EXPECT_THAT(Grant(1),
              ElementsAre("digest 1", "write 1.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 0), IsEmpty());
  EXPECT_THAT(Did([&](auto& out) { machine_->OnDigest(1, out); }),
              ElementsAre("trailer 1"));
}

// A stream that stands still holds up neither lanes nor other streams.
TEST_F(SendMachineTest, BodiesThatAreCopiedFirstTakeNoLane) {
  SendMachine::Settings settings = OneLane();
  settings.copies_per_operation = 2;
  settings.copies_per_stream = 3;
  Make(settings);
  for (OperationId id : {1, 2}) {
    SendMachine::Request request;
    request.body_nbytes = {10, 10, 10};
    request.copied_on = {1, 1, 1};
    Did([&](auto& out) { machine_->Submit(id, std::move(request), out); });
  }
  EXPECT_THAT(Grant(1), ElementsAre("copy 1.0", "copy 1.1"));
  EXPECT_THAT(Grant(2), ElementsAre("copy 2.0"));
  SendMachine::Request other;
  other.body_nbytes = {10};
  other.copied_on = {2};
  Did([&](auto& out) { machine_->Submit(3, std::move(other), out); });
  EXPECT_THAT(Grant(3), ElementsAre("copy 3.0"));
  Submit(4, {10, 10});
  EXPECT_THAT(Grant(4), ElementsAre("write 4.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 4, 0), ElementsAre("write 4.1 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 4, 1), ElementsAre("trailer 4"));
  EXPECT_THAT(Copied(1, 1), ElementsAre("write 1.1 attempt 0 lane 1.1"));
  EXPECT_THAT(Copied(2, 0), IsEmpty());  // the lane is taken
  // What was written frees the next copy.
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("write 2.0 attempt 0 lane 1.1"));
}

TEST_F(SendMachineTest, WhatIsLostIsCopiedAgain) {
  Make(OneLane());
  SendMachine::Request request;
  request.body_nbytes = {10};
  request.copied_on = {1};
  Did([&](auto& out) { machine_->Submit(1, std::move(request), out); });
  EXPECT_THAT(Grant(1), ElementsAre("copy 1.0"));
  EXPECT_THAT(Copied(1, 0), ElementsAre("write 1.0 attempt 0 lane 1.1"));
  Written(1, 1, 0, false);
  Did([&](auto& out) { machine_->OnLaneEnded(1, out); });
  EXPECT_THAT(Did([&](auto& out) { machine_->OnLaneUp(1, 2, out); }),
              ElementsAre("copy 1.0"));
  EXPECT_THAT(Copied(1, 0), ElementsAre("write 1.0 attempt 1 lane 1.2"));
}

TEST_F(SendMachineTest, ACancelledCopyIsWaitedForAndResetsNoLane) {
  Make(OneLane());
  SendMachine::Request request;
  request.body_nbytes = {10};
  request.copied_on = {1};
  Did([&](auto& out) { machine_->Submit(1, std::move(request), out); });
  Grant(1);
  EXPECT_THAT(Cancel(1), ElementsAre("cancel 1"));
  EXPECT_THAT(Copied(1, 0), ElementsAre("finish 1 CANCELLED"));
}

TEST_F(SendMachineTest, DigestsOfWhatIsCopiedComeLast) {
  SendMachine::Settings settings = OneLane();
  settings.digests = true;
  Make(settings);
  SendMachine::Request request;
  request.body_nbytes = {10, 20};
  request.digest_last = true;
  Did([&](auto& out) { machine_->Submit(1, std::move(request), out); });
  EXPECT_THAT(Grant(1), ElementsAre("write 1.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("write 1.1 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("digest 1"));
  EXPECT_THAT(Did([&](auto& out) { machine_->OnDigest(1, out); }),
              ElementsAre("trailer 1"));
  // The bytes are the same when they are sent again.
  Did([&](auto& out) { machine_->OnLaneEnded(1, out); });
  EXPECT_THAT(Did([&](auto& out) { machine_->OnLaneUp(1, 2, out); }),
              ElementsAre("write 1.0 attempt 1 lane 1.2"));
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("write 1.1 attempt 1 lane 1.2"));
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("trailer 1"));
}

TEST_F(SendMachineTest, WhatIsCancelledIsNotDigestedLast) {
  SendMachine::Settings settings = OneLane();
  settings.digests = true;
  Make(settings);
  SendMachine::Request request;
  request.body_nbytes = {10};
  request.digest_last = true;
  Did([&](auto& out) { machine_->Submit(1, std::move(request), out); });
  Grant(1);
  Cancel(1);
  EXPECT_THAT(Written(1, 1, 0, true), ElementsAre("finish 1 CANCELLED"));
}

TEST_F(SendMachineTest, EagerBodiesGoUpToTheWindow) {
  SendMachine::Settings settings = OneLane();
  settings.writes_per_lane = 9;
  Make(settings);
  EXPECT_THAT(Submit(1, {60, 60}, /*eager=*/true),
              ElementsAre("header 1", "write 1.0 attempt 0 lane 1.1"));
  EXPECT_EQ(machine_->eager_bytes(), 60u);
  // The grant gives the window back: there is room for the second message.
  Submit(2, {70}, /*eager=*/true);
  EXPECT_THAT(Grant(1), ElementsAre("write 1.1 attempt 0 lane 1.1",
                                    "write 2.0 attempt 0 lane 1.1"));
  EXPECT_EQ(machine_->eager_bytes(), 70u);
}

TEST_F(SendMachineTest, OperationsTakeTurns) {
  SendMachine::Settings settings = OneLane();
  settings.limits.eager_bytes = 1000;
  Make(settings);
  EXPECT_THAT(Submit(1, {10, 10, 10}, true),
              ElementsAre("header 1", "write 1.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Submit(2, {10, 10}, true), ElementsAre("header 2"));
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("write 1.1 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("write 2.0 attempt 0 lane 1.1"));
  EXPECT_THAT(Written(1, 2, 0), ElementsAre("write 1.2 attempt 0 lane 1.1"));
}

TEST_F(SendMachineTest, CancelResetsTheLaneAndWaitsForIt) {
  Make(OneLane());
  Submit(1, {10});
  Grant(1);
  EXPECT_THAT(Cancel(1), ElementsAre("cancel 1", "reset lane 1.1"));
  EXPECT_THAT(Written(1, 1, 0, false), ElementsAre("finish 1 CANCELLED"));
  // The peer still has the last word.
  EXPECT_FALSE(machine_->idle());
  EXPECT_THAT(Ack(1, absl::CancelledError("")), IsEmpty());
  EXPECT_TRUE(machine_->idle());
}

TEST_F(SendMachineTest, CancelWithNothingInTheTransportEndsAtOnce) {
  Make(OneLane());
  Submit(1, {10});
  EXPECT_THAT(Cancel(1), ElementsAre("cancel 1", "finish 1 CANCELLED"));
  EXPECT_THAT(Cancel(1), IsEmpty());
}

TEST_F(SendMachineTest, WhatIsNotBegunEndsWithoutAWord) {
  machine_ = std::make_unique<SendMachine>(OneLane());
  Submit(1, {});
  EXPECT_THAT(Cancel(1), ElementsAre("finish 1 CANCELLED"));
  EXPECT_TRUE(machine_->idle());
}

TEST_F(SendMachineTest, LaneThatEndsIsSentAgain) {
  Make(OneLane());
  Submit(1, {10, 20});
  Grant(1);
  Written(1, 1, 0);
  EXPECT_THAT(Written(1, 1, 1, false), IsEmpty());
  EXPECT_THAT(Did([&](auto& out) { machine_->OnLaneEnded(1, out); }),
              IsEmpty());
  EXPECT_THAT(Did([&](auto& out) { machine_->OnLaneUp(1, 2, out); }),
              ElementsAre("write 1.0 attempt 1 lane 1.2"));
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("write 1.1 attempt 1 lane 1.2"));
  EXPECT_THAT(Written(1, 1, 1), ElementsAre("trailer 1"));
  EXPECT_THAT(machine_->AttemptsOf(1),
              ElementsAre(BodyAttempt{0, 1}, BodyAttempt{1, 1}));
}

TEST_F(SendMachineTest, DeadlineIsACancellation) {
  Make(OneLane());
  Submit(1, {10});
  EXPECT_EQ(machine_->next_deadline(), absl::UnixEpoch() + absl::Seconds(10));
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnTime(absl::UnixEpoch() + absl::Seconds(9), out);
              }),
              IsEmpty());
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnTime(absl::UnixEpoch() + absl::Seconds(10), out);
              }),
              ElementsAre("cancel 1", "finish 1 DEADLINE_EXCEEDED"));
  EXPECT_EQ(machine_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(SendMachineTest, RefusalEndsOnceTheWritesAreBack) {
  Make(OneLane());
  Submit(1, {10}, /*eager=*/true);
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnRefuse(1, absl::NotFoundError("x"), out);
              }),
              IsEmpty());
  EXPECT_EQ(machine_->eager_bytes(), 0u);
  EXPECT_THAT(Written(1, 1, 0), ElementsAre("finish 1 NOT_FOUND"));
}

TEST_F(SendMachineTest, DeadlineGetsTheBuffersOfWhatWasRefusedBack) {
  Make(OneLane());
  Submit(1, {10}, /*eager=*/true);
  Did([&](auto& out) { machine_->OnRefuse(1, absl::NotFoundError("x"), out); });
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnTime(absl::UnixEpoch() + absl::Seconds(10), out);
              }),
              ElementsAre("reset lane 1.1"));
  EXPECT_THAT(Written(1, 1, 0, false), ElementsAre("finish 1 NOT_FOUND"));
}

TEST_F(SendMachineTest, LiesEndTheLink) {
  Make(OneLane());
  EXPECT_THAT(Grant(4), ElementsAre(HasSubstr("GRANT for an operation")));
  EXPECT_THAT(Ack(4), ElementsAre(HasSubstr("ACK for an operation")));
  Submit(5, {});
  EXPECT_THAT(Grant(5), ElementsAre(HasSubstr("GRANT without bodies")));
  Submit(6, {10});
  EXPECT_THAT(Ack(6), ElementsAre(HasSubstr("not sent yet")));
  Grant(6);
  EXPECT_THAT(Grant(6), ElementsAre(HasSubstr("second GRANT")));
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnRefuse(6, absl::AbortedError(""), out);
              }),
              ElementsAre(HasSubstr("REFUSE after GRANT")));
  Ack(5);
  EXPECT_THAT(Ack(5), ElementsAre(HasSubstr("ACK for an operation")));
}

TEST_F(SendMachineTest, EndFinishesWhatHasItsBuffersAndThenTheRest) {
  Make(OneLane());
  Submit(1, {10});
  Grant(1);
  Submit(2, {10});
  EXPECT_THAT(
      Did([&](auto& out) { machine_->End(absl::UnavailableError(""), out); }),
      ElementsAre("finish 2 UNAVAILABLE"));
  EXPECT_THAT(Written(1, 1, 0, false), ElementsAre("finish 1 UNAVAILABLE"));
  EXPECT_TRUE(machine_->idle());
  EXPECT_THAT(Submit(3, {}), ElementsAre("finish 3 UNAVAILABLE"));
}

}  // namespace
}  // namespace tensorferry
