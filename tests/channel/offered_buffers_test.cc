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

constexpr uint64_t kPiece = 1000;

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

TEST(OfferedBuffersTest, BufferIsOfferedAndEndsWhenThePeerHasReadIt) {
  OfferedBuffers offered(kPiece);
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
  EXPECT_THAT(ended->fell_back, IsOk());
  EXPECT_FALSE(offered.TakeEnded());
}

TEST(OfferedBuffersTest, StreamIsCutAndEndsWhenAllOfItIsWritten) {
  OfferedBuffers offered(kPiece);
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
  EXPECT_THAT(ended->fell_back,
              StatusIs(absl::StatusCode::kFailedPrecondition, "refused"));
}

TEST(OfferedBuffersTest, EmptyOnesTakeANumberAndNoFrame) {
  OfferedBuffers offered(kPiece);
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
  OfferedBuffers offered(kPiece);
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

TEST(OfferedBuffersTest, AnswerToWhatIsNotTheOldestOpenOfferIsALie) {
  for (const LocalFrame& lie :
       {Done(2, 2), Done(0, 1), Done(1, 3), Stream(2, 3), Done(3, 3)}) {
    OfferedBuffers offered(kPiece);
    EXPECT_THAT(offered.OnAnswer(Done(0, 1)),
                StatusIs(absl::StatusCode::kDataLoss));
    offered.Add(kMemory, 1);
    offered.Add(kMemory, 2);
    offered.Add(kMemory, 3);
    EXPECT_THAT(offered.OnAnswer(Done(0, 1)), IsOk());
    EXPECT_THAT(offered.OnAnswer(lie), StatusIs(absl::StatusCode::kDataLoss));
  }
}

}  // namespace
}  // namespace tensorferry
