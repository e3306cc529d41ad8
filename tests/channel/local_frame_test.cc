#include "channel/local_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::StatusIs;
using Kind = LocalFrame::Kind;

MemoryNonce SomeNonce() {
  MemoryNonce nonce;
  for (size_t i = 0; i < nonce.size(); ++i) nonce[i] = i + 1;
  return nonce;
}

std::vector<LocalFrame> Samples() {
  return {
      {.kind = Kind::kHello, .address = 0x7fff00001234, .nonce = SomeNonce()},
      {.kind = Kind::kHello, .reason = "not today"},
      {.kind = Kind::kOffer, .number = 7, .length = 1, .address = 9},
      {.kind = Kind::kDone, .number = uint64_t{1} << 60, .length = 100},
      {.kind = Kind::kStream, .length = 3, .reason = std::string(208, 'r')},
      {.kind = Kind::kData, .number = 2, .length = 1 << 20},
      {.kind = Kind::kArena, .arena = 63, .length = 4096},
      {.kind = Kind::kArena, .length = 4096, .reason = "may not go"},
      {.kind = Kind::kWant, .arena = 5, .number = 8, .length = 7},
      {.kind = Kind::kWant, .number = 8, .length = 7, .address = 4096},
      {.kind = Kind::kPlaced, .number = 8, .length = 7},
      {.kind = Kind::kCannot, .number = 8, .length = 7, .reason = "no room"},
      {.kind = Kind::kLend, .arena = 15, .length = 4096},
      {.kind = Kind::kLend, .length = 4096, .reason = "may not go"},
      {.kind = Kind::kLoan, .arena = 15, .length = 7, .address = 9},
      {.kind = Kind::kLoan,
       .number = 1,
       .length = 7,
       .address = 9,
       .offset = 8},
      {.kind = Kind::kLeased, .number = 8, .length = 7},
      {.kind = Kind::kPlacing, .number = 8, .length = 6},
  };
}

std::string Encode(const LocalFrame& frame) {
  const LocalFrameBytes bytes = EncodeLocalFrame(frame);
  return std::string(bytes.begin(), bytes.end());
}

TEST(LocalFrameTest, EveryKindIsReadBackAsItWasWritten) {
  for (const LocalFrame& frame : Samples()) {
    EXPECT_THAT(DecodeLocalFrame(Encode(frame)), IsOkAndHolds(frame));
  }
}

TEST(LocalFrameTest, BytesAreThoseOfVersion4) {
  const LocalFrame frame{
      .kind = Kind::kOffer, .number = 7, .length = 0x0102, .address = 9};
  std::string want(256, '\0');
  want[0] = 2;
  want[8] = 7;
  want[16] = 2;
  want[17] = 1;
  want[24] = 9;
  EXPECT_EQ(Encode(frame), want);
  want[0] = 7;
  want[1] = 5;
  EXPECT_EQ(Encode({.kind = Kind::kWant,
                    .arena = 5,
                    .number = 7,
                    .length = 0x0102,
                    .address = 9}),
            want);
  want[0] = 11;
  want[33] = 3;
  EXPECT_EQ(Encode({.kind = Kind::kLoan,
                    .arena = 5,
                    .number = 7,
                    .length = 0x0102,
                    .address = 9,
                    .offset = 0x0300}),
            want);
  std::string hello(256, '\0');
  hello[0] = 1;
  hello.replace(48, 9, "not today");
  EXPECT_EQ(Encode(Samples()[1]), hello);
  EXPECT_EQ(Encode(Samples()[0]).substr(32, 16),
            std::string("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10"));
}

TEST(LocalFrameTest, ReasonIsCutAndMadePrintable) {
  LocalFrame frame{.kind = Kind::kStream,
                   .length = 1,
                   .reason = "a\nb\xff" + std::string(300, 'c')};
  const auto back = DecodeLocalFrame(Encode(frame));
  ASSERT_THAT(back, testing::IsOk());
  EXPECT_EQ(back->reason, "a?b?" + std::string(204, 'c'));
}

TEST(LocalFrameTest, AnotherLengthIsRefused) {
  const std::string bytes = Encode(Samples()[0]);
  for (const std::string& wrong :
       {bytes.substr(1), bytes + '\0', std::string()}) {
    EXPECT_THAT(DecodeLocalFrame(wrong), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(LocalFrameTest, FieldThatTheKindDoesNotHaveIsRefused) {
  LocalFrame hello = Samples()[0], offer = Samples()[2], done = Samples()[3];
  LocalFrame arena = Samples()[6], want = Samples()[9], cannot = Samples()[11];
  LocalFrame lend = Samples()[12], loan = Samples()[15];
  std::vector<LocalFrame> wrong(24, done);
  wrong[0].kind = static_cast<Kind>(0);
  wrong[1].kind = static_cast<Kind>(14);
  wrong[2].length = 0;
  wrong[3].address = 1;
  wrong[4].reason = "why";
  wrong[5].nonce = SomeNonce();
  wrong[6] = hello;
  wrong[6].length = 1;
  wrong[7] = hello;
  wrong[7].address = 0;
  wrong[8] = hello;
  wrong[8].reason = "why";
  wrong[9] = offer;
  wrong[9].address = 0;
  wrong[10] = offer;
  wrong[10].address = UINT64_MAX;
  wrong[11].number = UINT64_MAX;
  wrong[12].arena = 1;
  wrong[13] = arena;
  wrong[13].arena = kMostArenas;
  wrong[14] = arena;
  wrong[14].number = 1;
  wrong[15] = arena;
  wrong[15].address = 1;
  wrong[16] = want;
  wrong[16].arena = 255;
  wrong[17] = want;
  wrong[17].address = UINT64_MAX;
  wrong[18] = cannot;
  wrong[18].reason = "";
  wrong[19] = lend;
  wrong[19].arena = kMostLentArenas;
  wrong[20] = lend;
  wrong[20].number = 1;
  wrong[21] = loan;
  wrong[21].arena = kMostLentArenas;
  wrong[22] = loan;
  wrong[22].address = 0;
  wrong[23] = loan;
  wrong[23].offset = UINT64_MAX;
  for (size_t i = 0; i < wrong.size(); ++i) {
    EXPECT_THAT(DecodeLocalFrame(Encode(wrong[i])),
                StatusIs(absl::StatusCode::kDataLoss))
        << i;
  }
}

TEST(LocalFrameTest, BytesBetweenFieldsMustBeZero) {
  std::string bytes = Encode(Samples()[3]);
  bytes[5] = 1;
  EXPECT_THAT(DecodeLocalFrame(bytes), StatusIs(absl::StatusCode::kDataLoss));
  bytes = Encode(Samples()[1]);
  bytes[255] = 'x';  // behind the end of the reason
  EXPECT_THAT(DecodeLocalFrame(bytes), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace tensorferry
