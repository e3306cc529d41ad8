// The peer at the other end of a channel's connection lies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "channel/peer_memory.h"
#include "tests/channel/channel_fixture.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;
using Kind = LocalFrame::Kind;

class LyingChannelTest : public ::testing::Test {
 protected:
  LyingChannelTest() {
    LocalChannelOptions options;
    options.peer_of = ThisProcess;
    side_ = std::make_unique<Side>(options);
    channel_ = side_->Open(wire_.accepted);
  }
  ~LyingChannelTest() override { channel_->close(); }

  LocalFrame Hello() {
    return {.kind = Kind::kHello,
            .address = nonce_.address(),
            .nonce = nonce_.value()};
  }

  // Both sides' hellos.
  void SayHello() {
    peer_.Write(Hello());
    ASSERT_THAT(peer_.Read(), IsOk());
  }

  LocalFrame Offer(uint64_t number, const void* at, uint64_t length) {
    return {.kind = Kind::kOffer,
            .number = number,
            .length = length,
            .address = reinterpret_cast<uint64_t>(at)};
  }

  // A receive of 100 bytes ends with `code`, and so does the connection.
  void ExpectReceiveFails(StatusCode code) {
    std::string into(100, '\0');
    Outcome received;
    Receive(*channel_, into, received);
    EXPECT_THAT(received.Wait(), StatusIs(code));
    EXPECT_TRUE(peer_.AwaitEnd());
    EXPECT_EQ(into, std::string(100, '\0'));
  }

  // An offer of 100 bytes that are said to be at `at` is answered with a wish
  // for the stream, which delivers.
  void ExpectStream(const void* at, const std::string& reason) {
    std::string into(100, '\0');
    Outcome received;
    Receive(*channel_, into, received);
    peer_.Write(Offer(0, at, 100));
    const auto answer = peer_.Read();
    ASSERT_THAT(answer, IsOk());
    EXPECT_EQ(answer->kind, Kind::kStream);
    EXPECT_THAT(answer->reason, HasSubstr(reason));
    peer_.Write({.kind = Kind::kData, .number = 0, .length = 60});
    peer_.Write(bytes_.substr(0, 60));
    peer_.Write({.kind = Kind::kData, .number = 0, .length = 40});
    peer_.Write(bytes_.substr(60));
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_EQ(into, bytes_);
  }

  UvConnections wire_;
  PlacedNonce nonce_;
  std::unique_ptr<Side> side_;
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
  RawPeer peer_{wire_.dialed};
  const std::string bytes_ = Pattern(100, 1);
};

TEST_F(LyingChannelTest, HonestHandIsServed) {
  SayHello();
  std::string into(100, '\0');
  Outcome received;
  Receive(*channel_, into, received);
  peer_.Write(Offer(0, bytes_.data(), 100));
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_EQ(into, bytes_);
  EXPECT_THAT(peer_.Read(),
              IsOkAndHolds(
                  LocalFrame{.kind = Kind::kDone, .number = 0, .length = 100}));
}

TEST_F(LyingChannelTest, ForgedPointerLeadsToTheStream) {
  SayHello();
  ExpectStream(reinterpret_cast<void*>(1), "no 100 bytes at address 1 ");
}

TEST_F(LyingChannelTest, ForgedNonceLeadsToTheStream) {
  MemoryNonce forged = nonce_.value();
  forged[0] ^= 1;
  peer_.Write(
      {.kind = Kind::kHello, .address = nonce_.address(), .nonce = forged});
  EXPECT_EQ(peer_.Read()->kind, Kind::kHello);
  ExpectStream(bytes_.data(), "not proved");
}

TEST_F(LyingChannelTest, NonceThatVanishesIsUnavailable) {
  SayHello();
  std::string into(100, '\0');
  Outcome first, second;
  Receive(*channel_, into, first);
  peer_.Write(Offer(0, bytes_.data(), 100));
  EXPECT_THAT(first.Wait(), IsOk());
  nonce_.Erase();
  peer_.Write(Offer(1, bytes_.data(), 100));
  Receive(*channel_, into, second);
  EXPECT_THAT(second.Wait(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(LyingChannelTest, OfferOfAnotherLengthIsDataLoss) {
  SayHello();
  peer_.Write(Offer(0, bytes_.data(), 101));
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, OfferOfAnotherBufferIsDataLoss) {
  SayHello();
  peer_.Write(Offer(1, bytes_.data(), 100));
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, SecondHelloIsDataLoss) {
  SayHello();
  peer_.Write(Hello());
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, NoHelloIsDataLoss) {
  peer_.Write(Offer(0, bytes_.data(), 100));
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, GarbageIsDataLoss) {
  peer_.Write(Pattern(kLocalFrameBytes, 3));
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, BytesThatNobodyAskedForAreDataLoss) {
  SayHello();
  peer_.Write({.kind = Kind::kData, .number = 0, .length = 100});
  peer_.Write(bytes_);
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, AnswerWithoutAnOfferIsDataLoss) {
  SayHello();
  peer_.Write({.kind = Kind::kDone, .number = 0, .length = 100});
  ExpectReceiveFails(StatusCode::kDataLoss);
}

TEST_F(LyingChannelTest, AnswerOfAnotherLengthFailsTheSend) {
  SayHello();
  Outcome sent;
  Send(*channel_, bytes_, sent);
  EXPECT_EQ(peer_.Read()->kind, Kind::kOffer);
  peer_.Write({.kind = Kind::kDone, .number = 0, .length = 99});
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kDataLoss));
  EXPECT_TRUE(peer_.AwaitEnd());
}

TEST_F(LyingChannelTest, SecondAnswerIsDataLoss) {
  SayHello();
  Outcome sent;
  Send(*channel_, bytes_, sent);
  EXPECT_EQ(peer_.Read()->kind, Kind::kOffer);
  peer_.Write({.kind = Kind::kDone, .number = 0, .length = 100});
  EXPECT_THAT(sent.Wait(), IsOk());
  peer_.Write({.kind = Kind::kDone, .number = 0, .length = 100});
  ExpectReceiveFails(StatusCode::kDataLoss);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
