#include "transfer/frame_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using absl::StatusCode;

template <class Kind>
Kind RoundTrip(const Kind& frame) {
  absl::StatusOr<Frame> decoded = DecodeFrame(EncodeFrame(frame), Limits());
  EXPECT_THAT(decoded, IsOk());
  if (!decoded.ok() || !std::holds_alternative<Kind>(*decoded)) {
    ADD_FAILURE() << "another frame came out";
    return Kind();
  }
  return std::get<Kind>(*decoded);
}

absl::Status Refusal(const Frame& frame) {
  return DecodeFrame(EncodeFrame(frame), Limits()).status();
}

HelloFrame AHello() {
  HelloFrame hello;
  hello.session_id = "s";
  hello.wire = "unix";
  hello.lane = 3;
  hello.generation = 9;
  hello.lanes = 5;
  hello.channels = {{"local", "cpu", 0, "boot-1"},
                    {"cuda_ipc", "cuda", 7, "x"}};
  hello.given_up = {{"unix", absl::UnavailableError("denied")}};
  return hello;
}

HeaderFrame AHeader() {
  HeaderFrame header;
  header.operation = 12;
  header.plan_digest = "plan";
  header.manifest = std::string("\0manifest", 9);
  header.is_inline = true;
  header.envelope.kind = Envelope::Kind::kReply;
  header.envelope.call = ~uint64_t{0};
  header.envelope.reply_error = absl::NotFoundError("not here");
  header.digests = {1, ~uint64_t{0}};
  return header;
}

TEST(FrameCodecTest, HelloComesThrough) {
  HelloFrame hello = RoundTrip(AHello());
  EXPECT_EQ(hello.session_id, "s");
  EXPECT_EQ(hello.wire, AHello().wire);
  EXPECT_EQ(hello.lane, 3u);
  EXPECT_EQ(hello.generation, 9u);
  EXPECT_EQ(hello.wire_version, kWireVersion);
  EXPECT_EQ(hello.lanes, 5u);
  ASSERT_THAT(hello.channels, SizeIs(2));
  EXPECT_EQ(hello.channels[1].name, "cuda_ipc");
  EXPECT_EQ(hello.channels[1].device_type, "cuda");
  EXPECT_EQ(hello.channels[1].device_index, 7);
  EXPECT_EQ(hello.channels[0].descriptor, "boot-1");
  ASSERT_THAT(hello.given_up, SizeIs(1));
  EXPECT_EQ(hello.given_up[0].path, "unix");
  EXPECT_THAT(hello.given_up[0].why,
              StatusIs(StatusCode::kUnavailable, "denied"));
}

TEST(FrameCodecTest, HeaderComesThrough) {
  HeaderFrame header = RoundTrip(AHeader());
  EXPECT_EQ(header.operation, 12u);
  EXPECT_EQ(header.plan_digest, "plan");
  EXPECT_EQ(header.manifest, AHeader().manifest);
  EXPECT_TRUE(header.is_inline);
  EXPECT_EQ(header.envelope.kind, Envelope::Kind::kReply);
  EXPECT_EQ(header.envelope.call, ~uint64_t{0});
  EXPECT_THAT(header.envelope.reply_error,
              StatusIs(StatusCode::kNotFound, "not here"));
  EXPECT_THAT(header.digests, ElementsAre(1, ~uint64_t{0}));
}

TEST(FrameCodecTest, FramesOfAnOperationComeThrough) {
  EXPECT_EQ(RoundTrip(GrantFrame{7}).operation, 7u);
  RefuseFrame refuse = RoundTrip(RefuseFrame{7, absl::AbortedError("no")});
  EXPECT_EQ(refuse.operation, 7u);
  EXPECT_THAT(refuse.status, StatusIs(StatusCode::kAborted, "no"));
  TrailerFrame trailer = RoundTrip(TrailerFrame{7, {5, 6}, {{1, 2}, {3, 4}}});
  EXPECT_THAT(trailer.digests, ElementsAre(5, 6));
  EXPECT_THAT(trailer.again, ElementsAre(BodyAttempt{1, 2}, BodyAttempt{3, 4}));
  EXPECT_THAT(RoundTrip(AckFrame{7, {}}).status, IsOk());
  EXPECT_THAT(RoundTrip(AckFrame{7, absl::DataLossError("x")}).status,
              StatusIs(StatusCode::kDataLoss, "x"));
  EXPECT_THAT(RoundTrip(CancelFrame{7, absl::CancelledError("c")}).status,
              StatusIs(StatusCode::kCancelled, "c"));
}

TEST(FrameCodecTest, FramesOfALaneComeThrough) {
  ReopenFrame reopen = RoundTrip(ReopenFrame{2, 4});
  EXPECT_EQ(reopen.lane, 2u);
  EXPECT_EQ(reopen.generation, 4u);
  EXPECT_THAT(RoundTrip(RejectFrame{absl::UnauthenticatedError("k")}).status,
              StatusIs(StatusCode::kUnauthenticated, "k"));
}

TEST(FrameCodecTest, BodyTagComesThrough) {
  absl::StatusOr<BodyTag> tag = DecodeBodyTag(EncodeBodyTag({1, 2, 3, 4}));
  ASSERT_THAT(tag, IsOk());
  EXPECT_EQ(tag->operation, 1u);
  EXPECT_EQ(tag->generation, 2u);
  EXPECT_EQ(tag->body, 3u);
  EXPECT_EQ(tag->attempt, 4u);
  EXPECT_THAT(DecodeBodyTag(""), StatusIs(StatusCode::kInvalidArgument,
                                          HasSubstr("body.operation")));
  EXPECT_THAT(DecodeBodyTag(std::string(1000, 'x')),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST(FrameCodecTest, StatusTextIsCutAndNotRefused) {
  std::string text(100000, 'x');
  AckFrame ack = RoundTrip(AckFrame{1, absl::InternalError(text)});
  EXPECT_THAT(std::string(ack.status.message()), SizeIs(4096));
}

TEST(FrameCodecTest, RefusalsNameTheField) {
  EXPECT_THAT(Refusal(GrantFrame{0}), StatusIs(StatusCode::kInvalidArgument,
                                               HasSubstr("grant.operation")));
  EXPECT_THAT(Refusal(RefuseFrame{1, absl::OkStatus()}),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("refuse.status.code is OK")));
  HelloFrame hello = AHello();
  hello.lane = 5;
  EXPECT_THAT(Refusal(hello), StatusIs(StatusCode::kInvalidArgument,
                                       HasSubstr("hello.lane is 5 of 5")));
  hello = AHello();
  hello.lanes = 1000000;
  EXPECT_THAT(Refusal(hello),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("hello.lanes")));
  hello = AHello();
  hello.wire = std::string(300, 'k');
  EXPECT_THAT(Refusal(hello),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("hello.wire")));
  HeaderFrame header = AHeader();
  header.envelope.kind = Envelope::Kind::kRequest;
  EXPECT_THAT(Refusal(header),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("reply_error")));
  header = AHeader();
  header.envelope.kind = static_cast<Envelope::Kind>(3);
  EXPECT_THAT(Refusal(header), StatusIs(StatusCode::kInvalidArgument,
                                        HasSubstr("envelope.kind is 3")));
  EXPECT_THAT(DecodeFrame("", Limits()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("kind")));
  EXPECT_THAT(DecodeFrame("\xff", Limits()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no frame")));
}

TEST(FrameCodecTest, LimitsAreNamed) {
  Limits limits;
  limits.manifest_bytes = 100;
  HeaderFrame header = AHeader();
  header.manifest = std::string(101, 'm');
  EXPECT_THAT(DecodeFrame(EncodeFrame(header), limits),
              StatusIs(StatusCode::kResourceExhausted,
                       HasSubstr("manifest_bytes of 100")));
  limits.tensors = 1;
  EXPECT_THAT(DecodeFrame(std::string(MaxFrameBytes(limits) + 1, 'x'), limits),
              StatusIs(StatusCode::kResourceExhausted));
}

// A frame of one field, in which `entry` is repeated.
std::string Repeated(char tag, const std::string& entry, size_t times) {
  std::string frame(1, tag);
  for (size_t length = entry.size() * times; length != 0; length >>= 7) {
    frame.push_back(
        static_cast<char>(length < 128 ? length : (length & 127) | 128));
  }
  for (size_t i = 0; i < times; ++i) frame += entry;
  return frame;
}

constexpr char kHelloTag = 0x0a, kTrailerTag = 0x2a;

TEST(FrameCodecTest, FramesThatDoNotGrowWithAMessageAreShort) {
  // Two bytes for each of a million channels.
  EXPECT_THAT(
      DecodeFrame(Repeated(kHelloTag, {"\x3a\0", 2}, 1 << 20), Limits()),
      StatusIs(StatusCode::kResourceExhausted, HasSubstr("65536")));
  EXPECT_THAT(DecodeFrame(Repeated(kHelloTag, {"\x3a\0", 2}, 30000), Limits()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("1024")));
  for (const Frame& frame : {Frame(GrantFrame{1}), Frame(AHello())}) {
    std::string hidden = EncodeFrame(AHeader()) + EncodeFrame(frame);
    hidden += Repeated(kHelloTag, {"\x42\0", 2}, 1 << 20);
    EXPECT_THAT(DecodeFrame(hidden, Limits()),
                StatusIs(StatusCode::kResourceExhausted));
  }
}

TEST(FrameCodecTest, ManifestsAndAttemptsMayBeLong) {
  HeaderFrame header = AHeader();
  header.manifest = std::string(32 << 20, 'm');
  EXPECT_THAT(RoundTrip(header).manifest, SizeIs(32 << 20));
  TrailerFrame trailer{7, std::vector<uint64_t>(4 << 17, ~uint64_t{0}), {}};
  for (uint32_t i = 0; i < 14000; ++i) trailer.again.push_back({i, ~0u});
  TrailerFrame decoded = RoundTrip(trailer);
  EXPECT_EQ(decoded.digests, trailer.digests);
  EXPECT_EQ(decoded.again, trailer.again);
}

TEST(FrameCodecTest, EveryBodySentAgainHasItsAttempt) {
  // body 5 and 6, attempt 1
  const std::string trailer("\x08\x01\x1a\x02\x05\x06\x22\x01\x01", 9);
  EXPECT_THAT(DecodeFrame(Repeated(kTrailerTag, trailer, 1), Limits()),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("again_attempt has 1 values for 2 bodies")));
}

// What is accepted means something: it encodes to a frame that says the same.
void ExpectDecodedOrRefused(const std::string& bytes) {
  absl::StatusOr<Frame> frame = DecodeFrame(bytes, Limits());
  if (!frame.ok()) return;
  const std::string again = EncodeFrame(*frame);
  absl::StatusOr<Frame> second = DecodeFrame(again, Limits());
  ASSERT_THAT(second, IsOk());
  EXPECT_EQ(EncodeFrame(*second), again);
}

TEST(FrameCodecTest, DamagedFramesAreDecodedOrRefused) {
  for (const Frame& frame :
       {Frame(AHello()), Frame(AHeader()),
        Frame(TrailerFrame{1, {2}, {{3, 4}}}), Frame(ReopenFrame{1, 2})}) {
    const std::string good = EncodeFrame(frame);
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::string damaged = good;
      damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
      ExpectDecodedOrRefused(damaged);
    }
    for (size_t length = 0; length < good.size(); ++length) {
      ExpectDecodedOrRefused(good.substr(0, length));
    }
  }
}

}  // namespace
}  // namespace tensorferry
