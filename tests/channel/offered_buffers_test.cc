#include "channel/offered_buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using Kind = LocalFrame::Kind;

constexpr uint64_t kPiece = 1000, kCopy = 10;

const char* const kMemory = reinterpret_cast<const char*>(0x10000);

LocalFrame Done(uint64_t number, uint64_t length) {
  return {.kind = Kind::kDone, .number = number, .length = length};
}

LocalFrame Stream(uint64_t number, uint64_t length) {
  return {.kind = Kind::kStream,
          .number = number,
          .length = length,
          .reason = "refused"};
}

LocalFrame Leased(uint64_t number, uint64_t length) {
  return {.kind = Kind::kLeased, .number = number, .length = length};
}

LocalFrame Want(uint64_t number, uint64_t length, uint64_t offset) {
  return {.kind = Kind::kWant,
          .arena = 7,
          .number = number,
          .length = length,
          .address = offset};
}

TEST(OfferedBuffersTest, BufferIsOfferedAndEndsWhenThePeerHasReadIt) {
  OfferedBuffers offered(kPiece, kCopy);
  const auto offer = offered.Add(kMemory, 100);
  ASSERT_TRUE(offer);
  EXPECT_EQ(*offer, (LocalFrame{.kind = Kind::kOffer,
                                .number = 0,
                                .length = 100,
                                .address = 0x10000}));
  EXPECT_FALSE(offered.TakeEnded());
  EXPECT_THAT(offered.OnAnswer(Done(0, 100)), IsOk());
  EXPECT_FALSE(offered.NextPiece());
  const auto ended = offered.TakeEnded();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->buffer, kMemory);
  EXPECT_EQ(ended->strategy, "vm");
  EXPECT_THAT(ended->not_vm, IsOk());
  EXPECT_FALSE(offered.TakeEnded());
}

TEST(OfferedBuffersTest, StreamIsCutAndEndsWhenAllOfItIsWritten) {
  OfferedBuffers offered(kPiece, kCopy);
  offered.Add(kMemory, 2 * kPiece + 5);
  EXPECT_THAT(offered.OnAnswer(Stream(0, 2 * kPiece + 5)), IsOk());
  const auto first = offered.NextPiece(), second = offered.NextPiece();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->data, kMemory);
  EXPECT_EQ(second->data, kMemory + kPiece);
  EXPECT_EQ(second->header,
            (LocalFrame{.kind = Kind::kData, .number = 0, .length = kPiece}));
  EXPECT_FALSE(offered.NextPiece()) << "two are in the transport";
  offered.OnPieceWritten();
  const auto last = offered.NextPiece();
  ASSERT_TRUE(last);
  EXPECT_EQ(last->header.length, 5u);
  EXPECT_EQ(last->data, kMemory + 2 * kPiece);
  offered.OnPieceWritten();
  EXPECT_FALSE(offered.TakeEnded());
  offered.OnPieceWritten();
  const auto ended = offered.TakeEnded();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->strategy, "stream");
  EXPECT_THAT(ended->not_vm,
              StatusIs(absl::StatusCode::kFailedPrecondition, "refused"));
}

TEST(OfferedBuffersTest, EmptyOnesTakeANumberAndNoFrame) {
  OfferedBuffers offered(kPiece, kCopy);
  EXPECT_FALSE(offered.Add(nullptr, 0));
  EXPECT_EQ(offered.Add(kMemory, 1)->number, 1u);
  EXPECT_FALSE(offered.Add(nullptr, 0));
  EXPECT_TRUE(offered.TakeEnded());
  EXPECT_FALSE(offered.TakeEnded()) << "the third waits for the second";
  EXPECT_THAT(offered.OnAnswer(Done(1, 1)), IsOk());
  EXPECT_EQ(offered.TakeEnded()->length, 1u);
  EXPECT_EQ(offered.TakeEnded()->length, 0u);
}

TEST(OfferedBuffersTest, LaterOnesWaitForAStream) {
  OfferedBuffers offered(kPiece, kCopy);
  offered.Add(kMemory, 1);
  offered.Add(kMemory, 2);
  offered.Add(kMemory, 3);
  EXPECT_THAT(offered.OnAnswer(Stream(0, 1)), IsOk());
  EXPECT_THAT(offered.OnAnswer(Done(1, 2)), IsOk());
  EXPECT_THAT(offered.OnAnswer(Stream(2, 3)), IsOk());
  EXPECT_EQ(offered.NextPiece()->header.number, 0u);
  EXPECT_EQ(offered.NextPiece()->header.number, 2u);
  EXPECT_FALSE(offered.TakeEnded());
  offered.OnPieceWritten();
  EXPECT_EQ(offered.TakeEnded()->length, 1u);
  EXPECT_EQ(offered.TakeEnded()->length, 2u);
  EXPECT_FALSE(offered.TakeEnded());
  offered.OnPieceWritten();
  EXPECT_EQ(offered.TakeEnded()->length, 3u);
}

TEST(OfferedBuffersTest, AnswerToWhatIsNoOpenOfferIsALie) {
  for (const LocalFrame& lie :
       {Done(2, 2), Done(0, 1), Done(1, 3), Stream(2, 2), Done(3, 3),
        Want(0, 1, 0), Want(1, 3, 0), Want(3, 3, 0)}) {
    OfferedBuffers offered(kPiece, kCopy);
    EXPECT_THAT(offered.OnAnswer(Done(0, 1)),
                StatusIs(absl::StatusCode::kDataLoss));
    offered.Add(kMemory, 1);
    offered.Add(kMemory, 2);
    offered.Add(kMemory, 3);
    EXPECT_THAT(offered.OnAnswer(Done(0, 1)), IsOk());
    EXPECT_THAT(offered.OnAnswer(lie), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_TRUE(offered.TakeEnded());
    EXPECT_THAT(offered.OnAnswer(lie), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(OfferedBuffersTest, WhatIsLentMayBeTakenWhereItIsOrInAnyOtherWay) {
  OfferedBuffers offered(kPiece, kCopy);
  const auto loan = offered.Add(kMemory, 7, OfferedBuffers::Loan{3, 4096});
  ASSERT_TRUE(loan);
  EXPECT_EQ(*loan, (LocalFrame{.kind = Kind::kLoan,
                               .arena = 3,
                               .length = 7,
                               .address = reinterpret_cast<uint64_t>(kMemory),
                               .offset = 4096}));
  offered.Add(kMemory, 7, OfferedBuffers::Loan{3, 8192});
  ASSERT_THAT(offered.OnAnswer(Leased(0, 7)), IsOk());
  ASSERT_THAT(offered.OnAnswer(Done(1, 7)), IsOk());
  EXPECT_EQ(offered.TakeEnded()->strategy, "lease");
  EXPECT_EQ(offered.TakeEnded()->strategy, "vm");
}

TEST(OfferedBuffersTest, WhatIsNotLentCannotBeLeased) {
  OfferedBuffers offered(kPiece, kCopy);
  offered.Add(kMemory, 7);
  EXPECT_THAT(offered.OnAnswer(Leased(0, 7)),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(OfferedBuffersTest, WantedBuffersAreCopiedInPiecesOneAfterTheOther) {
  OfferedBuffers offered(kPiece, kCopy);
  offered.Add(kMemory, 15);
  offered.Add(kMemory, 3);
  EXPECT_FALSE(offered.NextCopy());
  ASSERT_THAT(offered.OnAnswer(Want(0, 15, 4096)), IsOk());
  ASSERT_THAT(offered.OnAnswer(Want(1, 3, 0)), IsOk());
  auto copy = offered.NextCopy();
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->arena, 7);
  EXPECT_EQ(copy->offset, 4096u);
  EXPECT_EQ(copy->from, kMemory);
  EXPECT_EQ(copy->length, 10u);
  EXPECT_FALSE(offered.NextCopy()) << "one at a time";
  EXPECT_FALSE(offered.OnCopied());
  copy = offered.NextCopy();
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->offset, 4106u);
  EXPECT_EQ(copy->from, kMemory + 10);
  EXPECT_EQ(copy->length, 5u);
  EXPECT_FALSE(offered.TakeEnded());
  EXPECT_EQ(offered.OnCopied(),
            (LocalFrame{.kind = Kind::kPlaced, .number = 0, .length = 15}));
  EXPECT_EQ(offered.TakeEnded()->strategy, "pool");
  ASSERT_TRUE(offered.NextCopy());
  EXPECT_TRUE(offered.OnCopied());
  EXPECT_TRUE(offered.TakeEnded());
  EXPECT_FALSE(offered.NextCopy());
}

TEST(OfferedBuffersTest, WhatCannotBeCopiedIsOfferedAsBefore) {
  OfferedBuffers offered(kPiece, kCopy);
  offered.Add(kMemory, 15);
  offered.Add(kMemory, 3);
  ASSERT_THAT(offered.OnAnswer(Want(0, 15, 0)), IsOk());
  ASSERT_THAT(offered.OnAnswer(Stream(1, 3)), IsOk());
  EXPECT_FALSE(offered.NextPiece()) << "the peer expects the first one's first";
  ASSERT_TRUE(offered.NextCopy());
  const LocalFrame cannot =
      offered.OnCannotCopy(absl::ResourceExhaustedError("too many"));
  EXPECT_EQ(cannot, (LocalFrame{.kind = Kind::kCannot,
                                .number = 0,
                                .length = 15,
                                .reason = "too many"}));
  EXPECT_FALSE(offered.NextCopy());
  EXPECT_THAT(offered.OnAnswer(Want(0, 15, 0)),
              StatusIs(absl::StatusCode::kDataLoss))
      << "without end";
  ASSERT_THAT(offered.OnAnswer(Done(0, 15)), IsOk());
  const auto ended = offered.TakeEnded();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->strategy, "vm");
  EXPECT_THAT(ended->not_pool,
              StatusIs(absl::StatusCode::kFailedPrecondition, "too many"));
  EXPECT_TRUE(offered.NextPiece());
}

}  // namespace
}  // namespace tensorferry
