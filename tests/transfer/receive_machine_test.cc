#include "transfer/receive_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ToString(const ReceiveAction& action) {
  using Kind = ReceiveAction::Kind;
  auto code = [&] { return absl::StatusCodeToString(action.status.code()); };
  switch (action.kind) {
    case Kind::kAllocate:
      return absl::StrCat("allocate ", action.operation, " for ",
                          action.receive);
    case Kind::kGrant:
      return absl::StrCat("grant ", action.operation);
    case Kind::kRefuse:
      return absl::StrCat("refuse ", action.operation, " ", code());
    case Kind::kAck:
      return absl::StrCat("ack ", action.operation, " ", code());
    case Kind::kRead:
      return absl::StrCat(action.place == BodyPlace::kRegion  ? "read "
                          : action.place == BodyPlace::kStage ? "stage "
                                                              : "sink ",
                          action.operation, ".", action.body, " lane ",
                          action.lane);
    case Kind::kDigest:
      return absl::StrCat("digest ", action.operation, ".", action.digested,
                          " to ", action.body);
    case Kind::kDeliver:
      if (action.digested != 0) {
        return absl::StrCat("deliver ", action.operation, " to ",
                            action.receive, ", ", action.digested, " digested");
      }
      return absl::StrCat("deliver ", action.operation, " to ", action.receive);
    case Kind::kFinishReceive:
      return absl::StrCat("finish ", action.receive, " ", code());
    case Kind::kDrop:
      return absl::StrCat("drop ", action.operation);
    case Kind::kResetLane:
      return absl::StrCat("reset lane ", action.lane, ".", action.generation);
    case Kind::kEndLink:
      return absl::StrCat("end: ", action.status.message());
  }
  return "?";
}

class ReceiveMachineTest : public ::testing::Test {
 protected:
  explicit ReceiveMachineTest(bool digests = false) {
    ReceiveMachine::Settings settings;
    settings.digests = digests;
    settings.body_lanes = 2;
    settings.limits.eager_bytes = 100;
    settings.limits.headers_waiting = 2;
    settings.limits.manifest_bytes = 100;
    settings.limits.operations_in_flight = 5;
    settings.limits.bytes_in_flight = 1000;
    machine_ = std::make_unique<ReceiveMachine>(settings);
  }

  template <class Event>
  std::vector<std::string> Did(Event event) {
    ReceiveMachine::Actions actions;
    event(actions);
    std::vector<std::string> texts;
    for (const ReceiveAction& action : actions) {
      texts.push_back(ToString(action));
    }
    return texts;
  }

  std::vector<std::string> Receive(ReceiveId id, ReceiveFilter filter = {}) {
    return Did([&](auto& out) {
      machine_->Receive(id, filter, absl::UnixEpoch() + absl::Seconds(10), out);
    });
  }
  static ReceiveMachine::Header Describe(std::vector<uint64_t> bodies,
                                         uint32_t type = 0) {
    ReceiveMachine::Header header;
    header.type = type;
    header.is_inline = bodies.empty();
    header.may_be_eager = true;
    for (uint64_t nbytes : bodies) header.nbytes += nbytes;
    header.body_nbytes = std::move(bodies);
    return header;
  }
  std::vector<std::string> Described(OperationId id,
                                     const ReceiveMachine::Header& header) {
    return Did([&](auto& out) { machine_->OnHeader(id, header, out); });
  }
  std::vector<std::string> Header(OperationId id, std::vector<uint64_t> bodies,
                                  uint32_t type = 0) {
    return Described(id, Describe(std::move(bodies), type));
  }
  std::vector<std::string> Allocated(OperationId id, absl::Status status = {}) {
    return Did([&](auto& out) { machine_->OnAllocated(id, status, out); });
  }
  std::vector<std::string> Body(int lane, OperationId id, uint32_t body,
                                uint32_t attempt = 0) {
    return Did(
        [&](auto& out) { machine_->OnBody(lane, 1, id, body, attempt, out); });
  }
  std::vector<std::string> BodyRead(int lane, OperationId id, uint32_t body,
                                    BodyPlace place = BodyPlace::kRegion,
                                    bool ok = true) {
    return Did([&](auto& out) {
      machine_->OnBodyRead(lane, id, body, place, ok, out);
    });
  }
  std::vector<std::string> Digested(OperationId id) {
    return Did([&](auto& out) { machine_->OnDigested(id, out); });
  }
  std::vector<std::string> SenderCancels(OperationId id) {
    return Did([&](auto& out) {
      machine_->OnCancel(id, absl::CancelledError(""), out);
    });
  }
  std::vector<std::string> Trailer(OperationId id,
                                   std::vector<BodyAttempt> again = {}) {
    return Did([&](auto& out) { machine_->OnTrailer(id, again, out); });
  }
  std::vector<std::string> Delivered(OperationId id) {
    return Did([&](auto& out) { machine_->OnDelivered(id, {}, out); });
  }
  std::vector<std::string> Cancel(ReceiveId id) {
    return Did([&](auto& out) {
      machine_->Cancel(id, absl::CancelledError(""), out);
    });
  }
  std::vector<std::string> LaneEnded(int lane) {
    return Did([&](auto& out) { machine_->OnLaneEnded(lane, out); });
  }

  std::unique_ptr<ReceiveMachine> machine_;
};

TEST_F(ReceiveMachineTest, InlineMessageIsDeliveredAtOnce) {
  Receive(1);
  EXPECT_THAT(Header(1, {}), ElementsAre("deliver 1 to 1"));
  EXPECT_THAT(Delivered(1), ElementsAre("ack 1 OK", "drop 1"));
  EXPECT_TRUE(machine_->idle());
}

TEST_F(ReceiveMachineTest, GrantedBodiesGoToTheirPlace) {
  Receive(1);
  EXPECT_THAT(Header(1, {10, 10}), ElementsAre("allocate 1 for 1"));
  EXPECT_THAT(Allocated(1), ElementsAre("grant 1"));
  EXPECT_THAT(Body(1, 1, 0), ElementsAre("read 1.0 lane 1"));
  EXPECT_THAT(Body(2, 1, 1), ElementsAre("read 1.1 lane 2"));
  EXPECT_THAT(Trailer(1), IsEmpty());
  EXPECT_THAT(BodyRead(2, 1, 1), IsEmpty());
  EXPECT_THAT(BodyRead(1, 1, 0), ElementsAre("deliver 1 to 1"));
  EXPECT_THAT(Delivered(1), ElementsAre("ack 1 OK", "drop 1"));
}

TEST_F(ReceiveMachineTest, EagerBodiesAreStagedUpToTheWindow) {
  Header(1, {60, 60});
  EXPECT_THAT(Body(1, 1, 0), ElementsAre("stage 1.0 lane 1"));
  EXPECT_EQ(machine_->staged_bytes(), 60u);
  EXPECT_THAT(Body(2, 1, 1), ElementsAre(HasSubstr("eager_bytes = 100")));
}

TEST_F(ReceiveMachineTest, GrantFreesTheWindow) {
  Header(1, {60});
  Body(1, 1, 0);
  BodyRead(1, 1, 0, BodyPlace::kStage);
  Receive(1);
  EXPECT_THAT(Allocated(1), ElementsAre("grant 1"));
  EXPECT_EQ(machine_->staged_bytes(), 0u);
  EXPECT_THAT(Trailer(1), ElementsAre("deliver 1 to 1"));
}

// For ever: its sender may have been stopped in between.
TEST_F(ReceiveMachineTest, BodyWaitsForItsHeader) {
  EXPECT_THAT(Body(1, 1, 0), IsEmpty());
  EXPECT_EQ(machine_->next_deadline(), absl::InfiniteFuture());
  EXPECT_THAT(Header(1, {10}), ElementsAre("stage 1.0 lane 1"));
}

TEST_F(ReceiveMachineTest, BodyWaitsForMemoryThatIsBeingAllocated) {
  Receive(1);
  Header(1, {10, 10});
  EXPECT_THAT(Body(1, 1, 0), IsEmpty());
  EXPECT_THAT(Allocated(1), ElementsAre("grant 1", "read 1.0 lane 1"));
}

TEST_F(ReceiveMachineTest, BodyThatWaitedForMemoryInVainIsDropped) {
  Receive(1);
  Header(1, {10, 10});
  Body(1, 1, 0);
  EXPECT_THAT(Allocated(1, absl::ResourceExhaustedError("")),
              ElementsAre("refuse 1 RESOURCE_EXHAUSTED", "sink 1.0 lane 1",
                          "drop 1", "finish 1 RESOURCE_EXHAUSTED"));
}

TEST_F(ReceiveMachineTest, SecondCopyWaitsForTheFirstAndTakesItsPlace) {
  Receive(1);
  Header(1, {10});
  Allocated(1);
  Body(1, 1, 0);
  EXPECT_THAT(Body(2, 1, 0, /*attempt=*/1), IsEmpty());
  EXPECT_THAT(BodyRead(1, 1, 0, BodyPlace::kRegion, false),
              ElementsAre("read 1.0 lane 2"));
  EXPECT_THAT(LaneEnded(1), IsEmpty());
  Trailer(1, {{0, 1}});
  EXPECT_THAT(BodyRead(2, 1, 0), ElementsAre("deliver 1 to 1"));
}

TEST_F(ReceiveMachineTest, OnlyTheAttemptThatTheTrailerNamesIsDelivered) {
  Receive(1);
  Header(1, {10});
  Allocated(1);
  Body(1, 1, 0);
  BodyRead(1, 1, 0);
  EXPECT_THAT(Trailer(1, {{0, 1}}), IsEmpty());
  EXPECT_THAT(Body(2, 1, 0, /*attempt=*/1), ElementsAre("read 1.0 lane 2"));
  EXPECT_THAT(BodyRead(2, 1, 0), ElementsAre("deliver 1 to 1"));
  // From now on the memory is the user's.
  EXPECT_THAT(Body(1, 1, 0, /*attempt=*/2), ElementsAre("sink 1.0 lane 1"));
}

TEST_F(ReceiveMachineTest, SecondCopyOfTheSameAttemptIsDropped) {
  Receive(1);
  Header(1, {10, 10});
  Allocated(1);
  Body(1, 1, 0);
  BodyRead(1, 1, 0);
  EXPECT_THAT(Body(1, 1, 0), ElementsAre("sink 1.0 lane 1"));
}

TEST_F(ReceiveMachineTest, CancelIsFencedByTheLane) {
  Receive(1);
  Header(1, {10, 10});
  Allocated(1);
  Body(1, 1, 0);
  EXPECT_THAT(Cancel(1), ElementsAre("ack 1 CANCELLED", "reset lane 1.1"));
  EXPECT_THAT(BodyRead(1, 1, 0, BodyPlace::kRegion, false),
              ElementsAre("drop 1", "finish 1 CANCELLED"));
  EXPECT_THAT(Body(2, 1, 1), ElementsAre("sink 1.1 lane 2"));
}

TEST_F(ReceiveMachineTest, CancelBeforeTheGrantRefuses) {
  Receive(1);
  Header(1, {10});
  EXPECT_THAT(Cancel(1), ElementsAre("refuse 1 CANCELLED"));
  EXPECT_THAT(Allocated(1), ElementsAre("drop 1", "finish 1 CANCELLED"));
}

TEST_F(ReceiveMachineTest, ReceiveWithoutAMessageEndsAtItsDeadline) {
  Receive(1);
  EXPECT_THAT(Did([&](auto& out) {
                machine_->OnTime(absl::UnixEpoch() + absl::Seconds(10), out);
              }),
              ElementsAre("finish 1 DEADLINE_EXCEEDED"));
}

TEST_F(ReceiveMachineTest, SenderThatGivesUpIsAnswered) {
  Header(1, {10});
  EXPECT_THAT(SenderCancels(1), ElementsAre("refuse 1 CANCELLED", "drop 1"));
  EXPECT_TRUE(machine_->idle());
}

TEST_F(ReceiveMachineTest, MessagesGoToTheReceiveThatNamesThemFirst) {
  ReceiveFilter of_type_5;
  of_type_5.type = 5;
  ReceiveFilter but_6;
  but_6.except_types = {6};
  Receive(1, but_6);
  Receive(2, of_type_5);
  EXPECT_THAT(Header(1, {}, 5), ElementsAre("deliver 1 to 2"));
  EXPECT_THAT(Header(2, {}, 6), IsEmpty());
  EXPECT_THAT(Header(3, {}, 0x80000001), IsEmpty());
  EXPECT_THAT(Header(4, {}, 7), ElementsAre("deliver 4 to 1"));
  EXPECT_THAT(Header(5, {}, 8),
              ElementsAre("refuse 5 RESOURCE_EXHAUSTED", "drop 5"));
  EXPECT_THAT(Receive(3), ElementsAre("deliver 2 to 3"));
}

TEST_F(ReceiveMachineTest, LiesEndTheLink) {
  Header(2, {10});
  EXPECT_THAT(Header(2, {10}), ElementsAre(HasSubstr("HEADER after that of")));
  EXPECT_THAT(Header(1, {10}), ElementsAre(HasSubstr("HEADER after that of")));
  EXPECT_THAT(Trailer(3), ElementsAre(HasSubstr("TRAILER before")));
  EXPECT_THAT(Trailer(2, {{7, 1}}), ElementsAre(HasSubstr("body 7 of 1")));
  EXPECT_THAT(Body(1, 2, 1), ElementsAre(HasSubstr("body 1 of 1")));
}

TEST_F(ReceiveMachineTest, BodyForADeviceBeforeItsGrantIsALie) {
  ReceiveMachine::Header to_device = Describe({10});
  to_device.may_be_eager = false;
  Described(1, to_device);
  EXPECT_THAT(Body(1, 1, 0), ElementsAre(HasSubstr("before its GRANT")));
}

// Whoever drops it ends its lane, and it would come again.
TEST_F(ReceiveMachineTest, BodyForADeviceThatComesAgainWaitsForTheDelivery) {
  ReceiveMachine::Header to_device = Describe({10});
  to_device.may_be_eager = false;
  Receive(1);
  Described(1, to_device);
  Allocated(1);
  Body(1, 1, 0);
  Trailer(1);
  EXPECT_THAT(BodyRead(1, 1, 0), ElementsAre("deliver 1 to 1"));
  EXPECT_THAT(Body(2, 1, 0, /*attempt=*/1), IsEmpty());
  EXPECT_THAT(Delivered(1),
              ElementsAre("ack 1 OK", "drop 1", "sink 1.0 lane 2"));
}

TEST_F(ReceiveMachineTest, LaneSinksOneBodyAtATime) {
  Header(1, {10, 10, 10});
  SenderCancels(1);
  EXPECT_THAT(Body(1, 1, 0), ElementsAre("sink 1.0 lane 1"));
  EXPECT_THAT(Body(1, 1, 1), IsEmpty());
  EXPECT_THAT(Body(2, 1, 2), ElementsAre("sink 1.2 lane 2"));
  EXPECT_THAT(BodyRead(1, 1, 0, BodyPlace::kSink),
              ElementsAre("sink 1.1 lane 1"));
}

TEST_F(ReceiveMachineTest, BodyTakenAsideForWhatIsOverHoldsUpItsLane) {
  Header(1, {60});
  Body(1, 1, 0);
  EXPECT_THAT(SenderCancels(1), ElementsAre("refuse 1 CANCELLED", "drop 1"));
  Header(2, {60, 10});
  EXPECT_THAT(Body(1, 2, 0), IsEmpty());
  EXPECT_THAT(Body(2, 2, 1), ElementsAre("stage 2.1 lane 2"));
  EXPECT_THAT(BodyRead(1, 1, 0, BodyPlace::kStage),
              ElementsAre("stage 2.0 lane 1"));
}

TEST_F(ReceiveMachineTest, OperationBeyondTheLimitIsALie) {
  for (int i = 1; i <= 6; ++i) Receive(i);
  for (int i = 1; i <= 5; ++i) Header(i, {});
  Delivered(3);
  EXPECT_THAT(Header(6, {}), ElementsAre("deliver 6 to 6"));
  EXPECT_THAT(Header(7, {}), ElementsAre(HasSubstr("operations_in_flight")));
}

TEST_F(ReceiveMachineTest, BytesBeyondTheLimitAreRefused) {
  Header(1, {400});
  EXPECT_THAT(Header(2, {601}),
              ElementsAre("refuse 2 RESOURCE_EXHAUSTED", "drop 2"));
  EXPECT_THAT(Header(3, {600}), IsEmpty());
  SenderCancels(1);
  SenderCancels(3);
  EXPECT_THAT(Header(4, {2000}), IsEmpty());  // alone
  EXPECT_THAT(Header(5, {1}),
              ElementsAre("refuse 5 RESOURCE_EXHAUSTED", "drop 5"));
}

TEST_F(ReceiveMachineTest, ManifestsThatWaitAreBounded) {
  ReceiveMachine::Header header = Describe({});
  header.manifest_nbytes = 60;
  EXPECT_THAT(Described(1, header), IsEmpty());
  EXPECT_THAT(Described(2, header),
              ElementsAre("refuse 2 RESOURCE_EXHAUSTED", "drop 2"));
  EXPECT_THAT(Receive(1), ElementsAre("deliver 1 to 1"));
  EXPECT_THAT(Described(3, header), IsEmpty());
  SenderCancels(3);
  Receive(2);
  EXPECT_THAT(Described(4, header), ElementsAre("deliver 4 to 2"));
  EXPECT_THAT(Described(5, header), IsEmpty());
}

TEST_F(ReceiveMachineTest, EndWaitsForTheTransport) {
  Receive(1);
  Header(1, {10});
  Allocated(1);
  Body(1, 1, 0);
  Receive(2);
  EXPECT_THAT(
      Did([&](auto& out) { machine_->End(absl::UnavailableError(""), out); }),
      ElementsAre("finish 2 UNAVAILABLE"));
  EXPECT_THAT(BodyRead(1, 1, 0, BodyPlace::kRegion, false),
              ElementsAre("drop 1", "finish 1 UNAVAILABLE"));
  EXPECT_THAT(Receive(3), ElementsAre("finish 3 UNAVAILABLE"));
}

class DigestingReceiveMachineTest : public ReceiveMachineTest {
 protected:
  DigestingReceiveMachineTest() : ReceiveMachineTest(/*digests=*/true) {}

  // Operation 1 for Receive 1, ready for its bodies on lane 1.
  void Begin(std::vector<uint64_t> bodies) {
    Receive(1);
    Header(1, std::move(bodies));
    Allocated(1);
  }
  std::vector<std::string> Arrive(uint32_t body, uint32_t attempt = 0) {
    Body(1, 1, body, attempt);
    return BodyRead(1, 1, body);
  }
};

TEST_F(DigestingReceiveMachineTest, BodiesAreDigestedInOrderAsTheyArrive) {
  Begin({10, 10, 10, 10});
  EXPECT_THAT(Arrive(1), IsEmpty());
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 2"));
  EXPECT_THAT(Arrive(2), IsEmpty());  // one at a time
  EXPECT_THAT(Digested(1), ElementsAre("digest 1.2 to 3"));
  EXPECT_THAT(Digested(1), IsEmpty());
  Trailer(1);
  EXPECT_THAT(Arrive(3), ElementsAre("deliver 1 to 1, 3 digested"));
}

TEST_F(DigestingReceiveMachineTest, DeliveryWaitsForTheDigestUnderWay) {
  Begin({10, 10});
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 1"));
  Arrive(1);
  EXPECT_THAT(Trailer(1), IsEmpty());
  EXPECT_THAT(Digested(1), ElementsAre("deliver 1 to 1, 1 digested"));
}

TEST_F(DigestingReceiveMachineTest, WhatWasTakenAsideIsDigestedToo) {
  Header(1, {10, 10});
  Body(1, 1, 0);
  BodyRead(1, 1, 0, BodyPlace::kStage);
  Receive(1);
  EXPECT_THAT(Allocated(1), ElementsAre("grant 1", "digest 1.0 to 1"));
}

TEST_F(DigestingReceiveMachineTest, BodyThatComesAgainLeavesAllToTheDelivery) {
  Begin({10, 10});
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 1"));
  EXPECT_THAT(Digested(1), IsEmpty());
  EXPECT_THAT(Body(1, 1, 0, /*attempt=*/1), ElementsAre("read 1.0 lane 1"));
  EXPECT_THAT(BodyRead(1, 1, 0), IsEmpty());
  Trailer(1, {{0, 1}});
  EXPECT_THAT(Arrive(1), ElementsAre("deliver 1 to 1"));
}

TEST_F(DigestingReceiveMachineTest,
       WhoSendsABodyAgainAndAgainHasItDigestedOnce) {
  Begin({10, 10});
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 1"));
  EXPECT_THAT(Digested(1), IsEmpty());
  for (uint32_t attempt = 1; attempt < 100; ++attempt) {
    EXPECT_THAT(Arrive(0, attempt), IsEmpty());
  }
  EXPECT_THAT(Arrive(1), IsEmpty());
  EXPECT_THAT(Trailer(1, {{0, 99}}), ElementsAre("deliver 1 to 1"));
}

TEST_F(DigestingReceiveMachineTest, WhatIsDigestedStaysSoWhenOthersComeAgain) {
  Begin({10, 10, 10});
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 1"));
  EXPECT_THAT(Digested(1), IsEmpty());
  Arrive(2);
  EXPECT_THAT(Arrive(2, /*attempt=*/1), IsEmpty());
  Trailer(1, {{2, 1}});
  EXPECT_THAT(Arrive(1), ElementsAre("deliver 1 to 1, 1 digested"));
}

TEST_F(DigestingReceiveMachineTest, NothingIsReadIntoWhatIsBeingDigested) {
  Begin({10, 10});
  EXPECT_THAT(Arrive(0), ElementsAre("digest 1.0 to 1"));
  EXPECT_THAT(Body(1, 1, 0, /*attempt=*/1), IsEmpty());
  EXPECT_THAT(Body(2, 1, 1), ElementsAre("read 1.1 lane 2"));
  EXPECT_THAT(Digested(1), ElementsAre("read 1.0 lane 1"));
}

TEST_F(DigestingReceiveMachineTest, MemoryOfWhatIsOverWaitsForTheDigest) {
  Begin({10, 10});
  Arrive(0);
  EXPECT_THAT(Cancel(1), ElementsAre("ack 1 CANCELLED"));
  EXPECT_THAT(Digested(1), ElementsAre("drop 1", "finish 1 CANCELLED"));
}

TEST_F(DigestingReceiveMachineTest, WhatIsOnADeviceIsLeftToTheDelivery) {
  ReceiveMachine::Header to_device = Describe({10, 10});
  to_device.may_be_eager = false;
  Receive(1);
  Described(1, to_device);
  Allocated(1);
  EXPECT_THAT(Arrive(0), IsEmpty());
}

}  // namespace
}  // namespace tensorferry
