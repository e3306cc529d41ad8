#include "channel/wanted_buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using absl::StatusCode;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using Kind = LocalFrame::Kind;

char* const kMemory = reinterpret_cast<char*>(0x10000);

LocalFrame Offer(uint64_t number, uint64_t length, uint64_t address = 0x5000) {
  return {.kind = Kind::kOffer,
          .number = number,
          .length = length,
          .address = address};
}

LocalFrame Placed(uint64_t number, uint64_t length) {
  return {.kind = Kind::kPlaced, .number = number, .length = length};
}

LocalFrame Placing(uint64_t number, uint64_t length) {
  return {.kind = Kind::kPlacing, .number = number, .length = length};
}

LocalFrame Cannot(uint64_t number, uint64_t length) {
  return {.kind = Kind::kCannot,
          .number = number,
          .length = length,
          .reason = "cannot"};
}

LocalFrame Data(uint64_t number, uint64_t length) {
  return {.kind = Kind::kData, .number = number, .length = length};
}

class WantedBuffersTest : public ::testing::Test {
 protected:
  WantedBuffers::Step Next(absl::Status vm = absl::OkStatus(),
                           absl::Status pool = absl::OkStatus()) {
    absl::StatusOr<WantedBuffers::Step> step = wanted_.NextStep(pool, vm);
    EXPECT_THAT(step, IsOk());
    return step.value_or(WantedBuffers::Step());
  }

  std::vector<WantedBuffers::Open> OpenToPeer() {
    std::vector<WantedBuffers::Open> all;
    wanted_.ForEachOpenToPeer(
        [&](const WantedBuffers::Open& open) { all.push_back(open); });
    return all;
  }

  void ExpectCopy(uint64_t from, void* to, uint64_t length) {
    const WantedBuffers::Step step = Next();
    ASSERT_TRUE(step.copy);
    EXPECT_EQ(step.copy->from, from);
    EXPECT_EQ(step.copy->to, to);
    EXPECT_EQ(step.copy->length, length);
    EXPECT_TRUE(Next().empty()) << "one at a time";
  }

  void ExpectStreamIsAskedFor(uint64_t number) {
    const WantedBuffers::Step step = Next(no_vm_);
    ASSERT_TRUE(step.answer);
    EXPECT_EQ(step.answer->kind, Kind::kStream);
    EXPECT_EQ(step.answer->number, number);
    EXPECT_EQ(step.answer->reason, "refused");
  }

  // Of `count` buffers of 5 bytes in the pool, which are offered.
  void ExpectWanted(int count) {
    for (int i = 0; i < count; ++i) {
      wanted_.Add(kMemory + 5 * i, 5, {.pool = true});
      ASSERT_THAT(wanted_.OnOffer(Offer(i, 5, 0x5000 + i)), IsOk());
      const WantedBuffers::Step step = Next();
      ASSERT_TRUE(step.want);
      EXPECT_EQ(step.want->number, i);
      EXPECT_EQ(step.want->data, kMemory + 5 * i);
      EXPECT_EQ(step.want->length, 5u);
    }
    EXPECT_TRUE(Next().empty());
  }

  const absl::Status no_vm_ = absl::FailedPreconditionError("refused");
  const absl::Status no_pool_ = absl::FailedPreconditionError("no pool");
  WantedBuffers wanted_{10};
};

TEST_F(WantedBuffersTest, MemoryIsReadInPieces) {
  wanted_.Add(kMemory, 25, {});
  EXPECT_TRUE(Next().empty());
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 25)), IsOk());
  ExpectCopy(0x5000, kMemory, 10);
  EXPECT_FALSE(wanted_.OnCopied());
  ExpectCopy(0x5000 + 10, kMemory + 10, 10);
  EXPECT_FALSE(wanted_.OnCopied());
  ExpectCopy(0x5000 + 20, kMemory + 20, 5);
  EXPECT_FALSE(wanted_.TakeEnded());
  EXPECT_EQ(wanted_.OnCopied(),
            (LocalFrame{.kind = Kind::kDone, .number = 0, .length = 25}));
  const auto ended = wanted_.TakeEnded();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->buffer, kMemory);
  EXPECT_EQ(ended->strategy, "vm");
  EXPECT_TRUE(Next().empty());
}

TEST_F(WantedBuffersTest, OffersMayComeFirst) {
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 5)), IsOk());
  ASSERT_THAT(wanted_.OnOffer(Offer(2, 6)), IsOk());
  EXPECT_TRUE(Next().empty());
  wanted_.Add(kMemory, 5, {});
  wanted_.Add(nullptr, 0, {});
  wanted_.Add(kMemory, 6, {});
  ExpectCopy(0x5000, kMemory, 5);
  EXPECT_TRUE(wanted_.OnCopied());
  ExpectCopy(0x5000, kMemory, 6);
  EXPECT_EQ(wanted_.TakeEnded()->length, 5u);
  EXPECT_EQ(wanted_.TakeEnded()->length, 0u);
  EXPECT_FALSE(wanted_.TakeEnded());
}

TEST_F(WantedBuffersTest, RefusedCopyBeginsAnewInTheStream) {
  wanted_.Add(kMemory, 25, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 25)), IsOk());
  ExpectCopy(0x5000, kMemory, 10);
  wanted_.OnCopied();
  ExpectCopy(0x5000 + 10, kMemory + 10, 10);
  wanted_.OnCopyRefused(no_vm_);
  ExpectStreamIsAskedFor(0);
  ASSERT_EQ(*wanted_.OnData(Data(0, 20)), kMemory);
  wanted_.OnDataRead();
  EXPECT_FALSE(wanted_.TakeEnded());
  ASSERT_EQ(*wanted_.OnData(Data(0, 5)), kMemory + 20);
  wanted_.OnDataRead();
  const auto ended = wanted_.TakeEnded();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->strategy, "stream");
  EXPECT_THAT(ended->not_vm,
              StatusIs(StatusCode::kFailedPrecondition, "refused"));
}

TEST_F(WantedBuffersTest, MemoryThatCannotBeReadIsNoReasonNotToReadOther) {
  for (int i = 0; i < 2; ++i) {
    wanted_.Add(kMemory, 5, {});
    ASSERT_THAT(wanted_.OnOffer(Offer(i, 5)), IsOk());
  }
  ExpectCopy(0x5000, kMemory, 5);
  wanted_.OnCopyRefused(absl::NotFoundError("not there"));
  const WantedBuffers::Step step = Next();
  ASSERT_TRUE(step.answer);
  EXPECT_EQ(step.answer->kind, Kind::kStream);
  EXPECT_EQ(step.answer->number, 0);
  EXPECT_EQ(step.answer->reason, "not there");
  ExpectCopy(0x5000, kMemory, 5);
  EXPECT_TRUE(wanted_.OnCopied());
}

TEST_F(WantedBuffersTest, StreamIsAskedForAhead) {
  wanted_.Add(kMemory, 1, {});
  wanted_.Add(kMemory, 2, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 1)), IsOk());
  ASSERT_THAT(wanted_.OnOffer(Offer(1, 2)), IsOk());
  ExpectStreamIsAskedFor(0);
  ExpectStreamIsAskedFor(1);
  EXPECT_TRUE(Next(no_vm_).empty());
}

TEST_F(WantedBuffersTest, OffersOutOfTurnAreLies) {
  ASSERT_THAT(wanted_.OnOffer(Offer(3, 1)), IsOk());
  EXPECT_THAT(wanted_.OnOffer(Offer(3, 1)), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(wanted_.OnOffer(Offer(2, 1)), StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, OfferOfAnotherLengthOrBufferIsALie) {
  for (const LocalFrame& lie : {Offer(0, 24), Offer(0, 26), Offer(1, 25)}) {
    WantedBuffers wanted(10);
    wanted.Add(kMemory, 25, {});
    ASSERT_THAT(wanted.OnOffer(lie), IsOk());
    EXPECT_THAT(wanted.NextStep(absl::OkStatus(), absl::OkStatus()),
                StatusIs(StatusCode::kDataLoss));
    EXPECT_THAT(wanted.NextStep(no_pool_, no_vm_),
                StatusIs(StatusCode::kDataLoss));
  }
}

TEST_F(WantedBuffersTest, BytesThatWereNotAskedForAreLies) {
  EXPECT_THAT(wanted_.OnData(Data(0, 1)), StatusIs(StatusCode::kDataLoss));
  wanted_.Add(kMemory, 25, {});
  EXPECT_THAT(wanted_.OnData(Data(0, 1)), StatusIs(StatusCode::kDataLoss));
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 25)), IsOk());
  ExpectStreamIsAskedFor(0);
  EXPECT_THAT(wanted_.OnData(Data(0, 26)), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(wanted_.OnData(Data(1, 1)), StatusIs(StatusCode::kDataLoss));
  ASSERT_THAT(wanted_.OnData(Data(0, 24)), IsOk());
  wanted_.OnDataRead();
  EXPECT_THAT(wanted_.OnData(Data(0, 2)), StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, BytesForABufferBeingCopiedAreLies) {
  wanted_.Add(kMemory, 25, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 25)), IsOk());
  ExpectCopy(0x5000, kMemory, 10);
  EXPECT_THAT(wanted_.OnData(Data(0, 1)), StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, BuffersInThePoolAreWantedAheadAndEndInOrder) {
  ExpectWanted(3);
  EXPECT_EQ(OpenToPeer().size(), 3u);
  ASSERT_THAT(wanted_.OnPlaced(Placed(1, 5)), IsOk());
  EXPECT_FALSE(wanted_.TakeEnded());
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  EXPECT_EQ(wanted_.TakeEnded()->strategy, "pool");
  EXPECT_EQ(wanted_.TakeEnded()->buffer, kMemory + 5);
  EXPECT_FALSE(wanted_.TakeEnded());
  const auto open = OpenToPeer();
  ASSERT_EQ(open.size(), 1u);
  EXPECT_EQ(open[0].number, 2u);
  EXPECT_EQ(open[0].data, kMemory + 10);
}

TEST_F(WantedBuffersTest, WhatThePeerCannotPlaceIsRead) {
  ExpectWanted(2);
  // A later one is being read when the peer says so.
  wanted_.Add(kMemory + 20, 7, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(2, 7, 0x6000)), IsOk());
  ExpectCopy(0x6000, kMemory + 20, 7);
  ASSERT_THAT(wanted_.OnCannot(Cannot(1, 5)), IsOk());
  ASSERT_THAT(wanted_.OnCannot(Cannot(0, 5)), IsOk());
  EXPECT_TRUE(OpenToPeer().empty());
  EXPECT_EQ(wanted_.OnCopied(),
            (LocalFrame{.kind = Kind::kDone, .number = 2, .length = 7}));
  ExpectCopy(0x5000, kMemory, 5);
  EXPECT_EQ(wanted_.OnCopied()->number, 0u);
  ExpectCopy(0x5001, kMemory + 5, 5);
  EXPECT_EQ(wanted_.OnCopied()->number, 1u);
  const auto ended = wanted_.TakeEnded();
  EXPECT_EQ(ended->strategy, "vm");
  EXPECT_THAT(ended->not_pool,
              StatusIs(StatusCode::kFailedPrecondition, "cannot"));
  EXPECT_THAT(ended->not_vm, IsOk());
}

LocalFrame Loan(uint64_t number, uint64_t length) {
  return {.kind = Kind::kLoan,
          .arena = 3,
          .number = number,
          .length = length,
          .address = 0x5000,
          .offset = 4096};
}

TEST_F(WantedBuffersTest, WhatIsLentIsLeasedWhereItCanBe) {
  wanted_.Add(kMemory, 5, {.lease = true, .pool = true});
  wanted_.Add(kMemory, 5, {.pool = true});
  wanted_.Add(kMemory, 5, {.lease = true});
  ASSERT_THAT(wanted_.OnOffer(Loan(0, 5)), IsOk());
  ASSERT_THAT(wanted_.OnOffer(Loan(1, 5)), IsOk());
  ASSERT_THAT(wanted_.OnOffer(Offer(2, 5)), IsOk());
  const WantedBuffers::Step step = Next();
  ASSERT_TRUE(step.lease);
  EXPECT_EQ(step.lease->arena, 3);
  EXPECT_EQ(step.lease->offset, 4096u);
  EXPECT_EQ(step.lease->to, kMemory);
  EXPECT_EQ(step.lease->length, 5u);
  EXPECT_TRUE(Next().empty()) << "one at a time";
  EXPECT_EQ(wanted_.OnLeased(),
            (LocalFrame{.kind = Kind::kLeased, .number = 0, .length = 5}));
  EXPECT_EQ(wanted_.TakeEnded()->strategy, "lease");
  EXPECT_TRUE(Next().want) << "no place for a lease";
  EXPECT_TRUE(Next().copy) << "not lent";
}

TEST_F(WantedBuffersTest, WhatCannotBeLeasedComesInAnotherWay) {
  wanted_.Add(kMemory, 5, {.lease = true, .pool = true});
  ASSERT_THAT(wanted_.OnOffer(Loan(0, 5)), IsOk());
  ASSERT_TRUE(Next().lease);
  wanted_.OnLeaseRefused(absl::InvalidArgumentError("no arena"));
  ASSERT_TRUE(Next().want);
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  const auto ended = wanted_.TakeEnded();
  EXPECT_EQ(ended->strategy, "pool");
  EXPECT_THAT(ended->not_lease,
              StatusIs(StatusCode::kFailedPrecondition, "no arena"));
}

TEST_F(WantedBuffersTest, WithoutThePoolItSaysWhy) {
  wanted_.Add(kMemory, 5, {.pool = true});
  wanted_.Add(kMemory, 5, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 5)), IsOk());
  ASSERT_THAT(wanted_.OnOffer(Offer(1, 5)), IsOk());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Next(absl::OkStatus(), no_pool_).copy);
    EXPECT_TRUE(wanted_.OnCopied());
  }
  EXPECT_THAT(wanted_.TakeEnded()->not_pool,
              StatusIs(StatusCode::kFailedPrecondition, "no pool"));
  EXPECT_THAT(wanted_.TakeEnded()->not_pool, IsOk());
}

TEST_F(WantedBuffersTest, PlacingWhatWasNotWantedIsALie) {
  EXPECT_THAT(wanted_.OnPlaced(Placed(0, 5)), StatusIs(StatusCode::kDataLoss));
  ExpectWanted(1);
  wanted_.Add(kMemory, 5, {});
  for (const LocalFrame& lie : {Placed(0, 4), Placed(1, 5), Placed(2, 5)}) {
    EXPECT_THAT(wanted_.OnPlaced(lie), StatusIs(StatusCode::kDataLoss));
    EXPECT_THAT(wanted_.OnCannot(lie), StatusIs(StatusCode::kDataLoss));
  }
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  EXPECT_THAT(wanted_.OnCannot(Cannot(0, 5)), StatusIs(StatusCode::kDataLoss));
  EXPECT_TRUE(wanted_.TakeEnded());
  EXPECT_THAT(wanted_.OnPlaced(Placed(0, 5)), StatusIs(StatusCode::kDataLoss));
}

class NoReader : public CopyReader {
  void Read(const std::byte*, uint64_t) override {}
};

TEST_F(WantedBuffersTest, WhatIsPlacedIsReadAlongAndEndsNoEarlier) {
  ExpectWanted(2);
  const auto reader = std::make_shared<NoReader>();
  wanted_.ReadAlong(0, reader);
  wanted_.ReadAlong(1, reader);
  EXPECT_FALSE(wanted_.NextArrived());
  const auto expect_read = [&](const void* data, uint64_t length) {
    const auto arrived = wanted_.NextArrived();
    ASSERT_TRUE(arrived);
    EXPECT_EQ(arrived->data, data);
    EXPECT_EQ(arrived->length, length);
    EXPECT_EQ(arrived->reader, reader);
    EXPECT_FALSE(wanted_.NextArrived()) << "one at a time";
  };
  ASSERT_THAT(wanted_.OnPlacing(Placing(0, 2)), IsOk());
  expect_read(kMemory, 2);
  ASSERT_THAT(wanted_.OnPlacing(Placing(0, 4)), IsOk());
  ASSERT_THAT(wanted_.OnPlaced(Placed(1, 5)), IsOk());
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  EXPECT_TRUE(OpenToPeer().empty());
  EXPECT_FALSE(wanted_.TakeEnded());
  wanted_.OnRead();
  expect_read(kMemory + 2, 3);
  EXPECT_FALSE(wanted_.TakeEnded());
  wanted_.OnRead();
  EXPECT_EQ(wanted_.TakeEnded()->strategy, "pool");
  EXPECT_FALSE(wanted_.TakeEnded());
  expect_read(kMemory + 5, 5);
  wanted_.OnRead();
  EXPECT_TRUE(wanted_.TakeEnded());
  EXPECT_FALSE(wanted_.NextArrived());
}

TEST_F(WantedBuffersTest, NoMoreThanAPieceIsReadAlongAtATime) {
  wanted_.Add(kMemory, 25, {.pool = true});
  ASSERT_THAT(wanted_.OnOffer(Offer(0, 25)), IsOk());
  ASSERT_TRUE(Next().want);
  wanted_.ReadAlong(0, std::make_shared<NoReader>());
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 25)), IsOk());
  for (const uint64_t length : {10, 10, 5}) {
    EXPECT_FALSE(wanted_.TakeEnded());
    const auto arrived = wanted_.NextArrived();
    ASSERT_TRUE(arrived);
    EXPECT_EQ(arrived->length, length);
    wanted_.OnRead();
  }
  EXPECT_EQ(wanted_.nbytes(), 25u);
  EXPECT_TRUE(wanted_.TakeEnded());
  EXPECT_EQ(wanted_.nbytes(), 0u);
}

TEST_F(WantedBuffersTest, WhatThePeerCannotPlaceIsNotReadAlong) {
  ExpectWanted(2);
  wanted_.ReadAlong(0, std::make_shared<NoReader>());
  wanted_.ReadAlong(1, std::make_shared<NoReader>());
  ASSERT_THAT(wanted_.OnCannot(Cannot(0, 5)), IsOk());
  ASSERT_THAT(wanted_.OnPlaced(Placed(1, 5)), IsOk());
  const auto arrived = wanted_.NextArrived();
  ASSERT_TRUE(arrived);
  EXPECT_EQ(arrived->data, static_cast<void*>(kMemory + 5));
}

TEST_F(WantedBuffersTest, BytesOfTheNextMayComeWhileOneIsReadAlong) {
  ExpectWanted(1);
  wanted_.ReadAlong(0, std::make_shared<NoReader>());
  wanted_.Add(kMemory + 5, 5, {});
  ASSERT_THAT(wanted_.OnOffer(Offer(1, 5)), IsOk());
  ExpectStreamIsAskedFor(1);
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  ASSERT_TRUE(wanted_.NextArrived());
  ASSERT_THAT(wanted_.OnData(Data(1, 5)), IsOk());
  wanted_.OnDataRead();
  EXPECT_FALSE(wanted_.TakeEnded());
  wanted_.OnRead();
  EXPECT_TRUE(wanted_.TakeEnded());
  EXPECT_TRUE(wanted_.TakeEnded());
}

TEST_F(WantedBuffersTest, PlacingNoMoreThanBeforeOrAllIsALie) {
  EXPECT_THAT(wanted_.OnPlacing(Placing(0, 1)),
              StatusIs(StatusCode::kDataLoss));
  ExpectWanted(1);
  ASSERT_THAT(wanted_.OnPlacing(Placing(0, 2)), IsOk());
  for (const LocalFrame& lie :
       {Placing(0, 1), Placing(0, 2), Placing(0, 5), Placing(1, 3)}) {
    EXPECT_THAT(wanted_.OnPlacing(lie), StatusIs(StatusCode::kDataLoss));
  }
  ASSERT_THAT(wanted_.OnPlaced(Placed(0, 5)), IsOk());
  EXPECT_THAT(wanted_.OnPlacing(Placing(0, 4)),
              StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, PlacingThatStopsIsALie) {
  ExpectWanted(1);
  ASSERT_THAT(wanted_.OnPlacing(Placing(0, 2)), IsOk());
  EXPECT_THAT(wanted_.OnCannot(Cannot(0, 5)), StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, BytesForABufferBeingPlacedAreLies) {
  ExpectWanted(1);
  EXPECT_THAT(wanted_.OnData(Data(0, 1)), StatusIs(StatusCode::kDataLoss));
}

TEST_F(WantedBuffersTest, OffersThatNobodyWaitsForAreBounded) {
  for (size_t i = 0; i < WantedBuffers::kMaxOffersWaiting; ++i) {
    ASSERT_THAT(wanted_.OnOffer(Offer(i, 1)), IsOk());
  }
  EXPECT_THAT(wanted_.OnOffer(Offer(WantedBuffers::kMaxOffersWaiting, 1)),
              StatusIs(StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace tensorferry
