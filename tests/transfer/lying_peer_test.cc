// A peer that has the key and speaks valid frames, but lies in them.
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/tensorpipe.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "serialization/chunked_digests.h"
#include "serialization/serialize.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "tests/transfer/raw_peer.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

using absl::StatusCode;

class LyingPeerTest : public LinkTest {
 protected:
  void Meet(TransferRules rules = BasicRules(), Clock* clock = Clock::Real()) {
    MakeEndpoint(clock, &executor_);
    Join(rules);
    ASSERT_THAT(up_.Wait(), IsOk());
  }
  // From then on what this side has for its executor waits.
  void MeetHeld(const TransferRules& rules = BasicRules()) {
    MakeEndpoint(Clock::Real(), &held_);
    Join(rules);
    ASSERT_TRUE(held_.RunOne());
    ASSERT_THAT(up_.Wait(), IsOk());
  }

  void MakeEndpoint(Clock* clock, Executor* executor) {
    EndpointOptions options;
    options.executor = executor;
    options.clock = clock;
    if (clock == Clock::Real()) {
      options.data.handshake_timeout = absl::Minutes(1);  // of slow machines
    }
    absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
        Endpoint::Create(options);
    ASSERT_THAT(endpoint, IsOk());
    endpoint_ = *std::move(endpoint);
  }

  // A new link, with a new peer.
  void Join(const TransferRules& rules) {
    up_ = StatusOutcome();
    down_ = StatusOutcome();
    absl::StatusOr<Endpoint::Expected> expected =
        endpoint_->Expect(rules, up_.done(), down_.done());
    ASSERT_THAT(expected, IsOk());
    link_ = expected->link;
    absl::StatusOr<std::unique_ptr<RawPeer>> peer =
        RawPeer::Connect(expected->addresses, expected->key, rules);
    ASSERT_THAT(peer, IsOk());
    peer_ = *std::move(peer);
  }

  // The header of a message of `nbytes`, as an honest peer sends it.
  HeaderFrame Header(uint64_t operation, int64_t nbytes) {
    absl::StatusOr<WriteBuffers> buffers =
        Serialize(TensorMessage{7, 0, "", {Pattern(nbytes, 1)}, {}}, {});
    HeaderFrame header;
    header.operation = operation;
    header.plan_digest = BasicRules().plan_digest;
    header.manifest = EncodeManifest(buffers->manifest());
    return header;
  }

  template <class Expected>
  Expected Next() {
    absl::StatusOr<Frame> frame = peer_->Next();
    EXPECT_THAT(frame, IsOk());
    if (!frame.ok() || !std::holds_alternative<Expected>(*frame)) {
      ADD_FAILURE() << "another frame";
      return Expected();
    }
    return std::get<Expected>(*frame);
  }

  // Body 0 of operation 1, of 1 MiB, and what no body has.
  static tensorpipe::Message BodyWithAPayload() {
    static std::string bytes(1 << 20, 'x');
    tensorpipe::Message::Tensor piece;
    piece.buffer = tensorpipe::CpuBuffer{bytes.data()};
    piece.length = bytes.size();
    piece.targetDevice = tensorpipe::Device("cpu", 0);
    tensorpipe::Message message;
    message.metadata = EncodeBodyTag({1, 1, 0, 0});
    message.tensors.push_back(std::move(piece));
    message.payloads.push_back({bytes.data(), 10, ""});
    return message;
  }

  // Comes before anything that was not refused.
  void ExpectRefusalOf(uint64_t operation) {
    HeaderFrame header = Header(operation, 100);
    header.plan_digest = "other";
    peer_->Send(header);
    EXPECT_EQ(Next<RefuseFrame>().operation, operation);
  }

  ::tensorferry::testing::HeldExecutor held_;
  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  std::unique_ptr<RawPeer> peer_;
  StatusOutcome up_, down_;
};

TEST_F(LyingPeerTest, HonestHeaderIsAnswered) {
  TransferRules rules = BasicRules();
  rules.digests = false;
  Meet(rules);
  Outcome<Received> received;
  link_->Receive({}, received.done());
  HeaderFrame header = Header(1, 100);
  header.is_inline = true;
  peer_->Send(header, std::string(100, 'a'));
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(Next<AckFrame>().status, IsOk());
  link_->Receive({}, [](auto) {});
  peer_->Send(Header(2, 1 << 20));
  EXPECT_EQ(Next<GrantFrame>().operation, 2u);
  peer_->SendBody(1, {2, 1, 0, 0}, {1 << 20});
  peer_->Send(TrailerFrame{2, {}, {}});
  EXPECT_THAT(Next<AckFrame>().status, IsOk());
}

struct Lie {
  std::string name;
  Frame frame;
  StatusCode code = StatusCode::kInvalidArgument;
  std::string text;
};

class LyingFrameTest : public LyingPeerTest,
                       public ::testing::WithParamInterface<Lie> {};

TEST_P(LyingFrameTest, EndsTheLinkWithAReason) {
  Meet();
  peer_->Send(GetParam().frame);
  EXPECT_THAT(down_.Wait(),
              StatusIs(GetParam().code, HasSubstr(GetParam().text)));
}

constexpr StatusCode kLie = StatusCode::kInvalidArgument;

INSTANTIATE_TEST_SUITE_P(
    All, LyingFrameTest,
    ::testing::Values(
        Lie{"Grant", GrantFrame{5}, kLie, "GRANT for an operation"},
        Lie{"Zero", GrantFrame{0}, kLie, "grant.operation is 0"},
        Lie{"Ack", AckFrame{5, {}}, kLie, "ACK for an operation"},
        Lie{"Refuse", RefuseFrame{5, absl::AbortedError("")}, kLie, "REFUSE"},
        Lie{"Cancel", CancelFrame{5, absl::AbortedError("")}, kLie,
            "CANCEL before its HEADER"},
        Lie{"Trailer", TrailerFrame{5, {}, {}}, kLie,
            "TRAILER before its HEADER"},
        Lie{"Reopen", ReopenFrame{1, 2}, kLie, "REOPEN"},
        Lie{"Hello", HelloFrame{"s", "k", 0, 1, 1, 2, {}, {}}, kLie, "HELLO"},
        Lie{"Leases", GrantFrame{5, true}, kLie, "GRANT for an operation"},
        Lie{"Returned", ReturnedFrame{{0}}, kLie, "returned.operations is 0"},
        Lie{"Reject", RejectFrame{absl::AbortedError("")}, kLie, "REJECT"}),
    [](const auto& info) { return info.param.name; });

TEST_F(LyingPeerTest, GarbageEndsTheLink) {
  Meet();
  peer_->SendBytes("\xff\xfe garbage");
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no frame")));
}

TEST_F(LyingPeerTest, OversizedFrameEndsTheLinkBeforeItIsRead) {
  TransferRules rules = BasicRules();
  rules.limits.manifest_bytes = 1000;
  Meet(rules);
  tensorpipe::Message message;
  static std::string much(8 << 20, 'x');
  message.payloads.push_back({much.data(), much.size(), ""});
  peer_->SendMessage(0, std::move(message));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("passes the limits")));
}

TEST_F(LyingPeerTest, SecondHeaderOfAnOperationEndsTheLink) {
  Meet();
  peer_->Send(Header(3, 1 << 20));
  peer_->Send(Header(3, 1 << 20));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("HEADER after that of")));
}

TEST_F(LyingPeerTest, WhatCannotBeLentIsRefused) {
  Meet();
  uint64_t id = 0;
  for (const std::vector<uint32_t>& lent :
       {std::vector<uint32_t>{99}, {0, 0}, {UINT32_MAX}}) {
    HeaderFrame header = Header(++id, 1 << 20);
    header.lent = lent;
    peer_->Send(header);
    EXPECT_THAT(
        Next<RefuseFrame>().status,
        StatusIs(StatusCode::kInvalidArgument, HasSubstr("cannot be lent")));
  }
}

// Whatever becomes of the message.
TEST_F(LyingPeerTest, ReturnedComesOnceForEachGrantWithLeases) {
  Meet();
  const auto lend = [&](uint64_t id) {
    HeaderFrame header = Header(id, 1 << 20);
    header.lent = {0};
    peer_->Send(header);
    const GrantFrame grant = Next<GrantFrame>();
    EXPECT_EQ(grant.operation, id);
    return grant.leases;
  };
  ReceiveOptions leases;
  leases.leases = true;
  {
    Outcome<Received> received;
    link_->Receive(leases, received.done());
    EXPECT_TRUE(lend(1));
    peer_->SendBody(1, {1, 1, 0, 0}, {1 << 20});
    peer_->Send(TrailerFrame{1, {0}, {}});
    EXPECT_THAT(Next<AckFrame>().status, IsOk());
    EXPECT_THAT(received.Wait(), IsOk());
  }
  EXPECT_THAT(Next<ReturnedFrame>().operations, ::testing::ElementsAre(1));
  link_->Receive(leases, [](auto) {});
  EXPECT_TRUE(lend(2));
  peer_->Send(CancelFrame{2, absl::CancelledError("changed my mind")});
  EXPECT_THAT(Next<AckFrame>().status, StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(Next<ReturnedFrame>().operations, ::testing::ElementsAre(2));
  for (uint64_t id : {3, 4}) {
    link_->Receive({}, [](auto) {});
    EXPECT_FALSE(lend(id));
    peer_->Send(CancelFrame{id, absl::CancelledError("changed my mind")});
    EXPECT_THAT(Next<AckFrame>().status, StatusIs(StatusCode::kCancelled));
  }
}

TEST_F(LyingPeerTest, BadMessagesAreRefusedOneByOne) {
  Meet();
  HeaderFrame other_plan = Header(1, 100);
  other_plan.plan_digest = "other";
  peer_->Send(other_plan);
  EXPECT_THAT(Next<RefuseFrame>().status,
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("other")));
  HeaderFrame no_manifest = Header(2, 100);
  no_manifest.manifest = "nonsense";
  peer_->Send(no_manifest);
  EXPECT_THAT(Next<RefuseFrame>().status,
              StatusIs(StatusCode::kInvalidArgument));
  HeaderFrame short_bytes = Header(3, 100);
  short_bytes.is_inline = true;
  peer_->Send(short_bytes, "too short");
  EXPECT_THAT(Next<RefuseFrame>().status,
              StatusIs(StatusCode::kDataLoss, HasSubstr("9 bytes, want 100")));
  // A digest that is not that of the bytes.
  Outcome<Received> received;
  link_->Receive({}, received.done());
  HeaderFrame wrong_digest = Header(4, 100);
  wrong_digest.is_inline = true;
  wrong_digest.digests = {1234};
  peer_->Send(wrong_digest, std::string(100, 'a'));
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(Next<AckFrame>().status, StatusIs(StatusCode::kDataLoss));
}

// Where what it says of its tensors would wait, in whatever number.
TEST_F(LyingPeerTest, RefusedHeadersLeaveNothingToTheExecutor) {
  MeetHeld();
  for (uint64_t id = 1; id <= 10; ++id) ExpectRefusalOf(id);
  EXPECT_EQ(held_.waiting(), 0);
}

TEST_F(LyingPeerTest, LoopMakesNoMemoryForTheSecondOfTwoThatComeTogether) {
  constexpr int64_t kBytes = 3 << 20;  // of the 4 that a pool makes first
  TransferRules rules = BasicRules();
  rules.digests = false;
  MeetHeld(rules);
  for (int i = 0; i < 3; ++i) link_->Receive({}, [](auto) {});
  peer_->Send(Header(1, kBytes));
  ASSERT_TRUE(held_.RunOne());
  Next<GrantFrame>();
  peer_->SendBody(1, {1, 1, 0, 0}, {kBytes});
  peer_->Send(TrailerFrame{1, {}, {}});
  Next<AckFrame>();
  ASSERT_TRUE(held_.RunOne());  // its callback, which gives the memory back
  // Both in one turn of the loop's.
  HeldLoop loop(*link_);
  Next<HeaderFrame>();
  peer_->Send(AckFrame{1, {}});
  loop.AwaitHeld();
  peer_->Send(Header(2, kBytes));
  peer_->Send(Header(3, kBytes));
  loop.GoOn();
  EXPECT_EQ(Next<GrantFrame>().operation, 2u);
  ExpectRefusalOf(4);
  held_.RunAll();
  EXPECT_EQ(Next<GrantFrame>().operation, 3u);
}

TEST_F(LyingPeerTest, BodyThatIsNotWhatTheManifestSaysIsNotRead) {
  struct Case {
    BodyTag tag;
    std::vector<size_t> pieces;
    StatusCode code;
    std::string text;
  };
  std::vector<Case> cases = {
      {{1, 1, 0, 0}, {1000}, StatusCode::kDataLoss, "1000 bytes, want 1048576"},
      {{1, 1, 0, 0}, {2 << 20}, StatusCode::kDataLoss, "2097152 bytes, want"},
      {{1, 1, 0, 0}, {512 << 10, 512 << 10}, StatusCode::kDataLoss, "2 pieces"},
      {{1, 1, 9, 0}, {1 << 20}, StatusCode::kInvalidArgument, "body 9 of 1"},
      {{1, 7, 0, 0}, {1 << 20}, StatusCode::kInvalidArgument, "generation 7"},
      {{1, 1, 0, 0}, {}, StatusCode::kDataLoss, "0 pieces"},
      {{1, 1, 0, 0},
       std::vector<size_t>(65, 10),
       StatusCode::kDataLoss,
       "65 pieces"},
  };
  for (const Case& lie : cases) {
    Meet();
    Outcome<Received> received;
    link_->Receive({}, received.done());
    peer_->Send(Header(1, 1 << 20));
    EXPECT_EQ(Next<GrantFrame>().operation, 1u);
    peer_->SendBody(1, lie.tag, lie.pieces);
    EXPECT_THAT(down_.Wait(), StatusIs(lie.code, HasSubstr(lie.text)));
    EXPECT_THAT(received.Wait(), StatusIs(lie.code));
  }
}

// Also one of what was lent, which may be longer than others.
TEST_F(LyingPeerTest, BodyWithAPayloadIsNotRead) {
  for (const std::vector<uint32_t>& lent : {std::vector<uint32_t>{}, {0}}) {
    Meet();
    link_->Receive({}, [](auto) {});
    HeaderFrame header = Header(1, 1 << 20);
    header.lent = lent;
    peer_->Send(header);
    Next<GrantFrame>();
    peer_->SendMessage(1, BodyWithAPayload());
    EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                       HasSubstr("1 payloads")));
  }
}

TEST_F(LyingPeerTest, BodyWithAPayloadIsNotDroppedEither) {
  Meet();
  peer_->Send(Header(1, 1 << 20));
  peer_->Send(CancelFrame{1, absl::CancelledError("changed my mind")});
  Next<RefuseFrame>();
  peer_->SendMessage(1, BodyWithAPayload());
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("1 payloads")));
}

TEST_F(LyingPeerTest, BodyWithoutATargetIsNotRead) {
  Meet();
  link_->Receive({}, [](auto) {});
  peer_->Send(Header(1, 1 << 20));
  Next<GrantFrame>();
  peer_->SendBody(1, {1, 1, 0, 0}, {1 << 20}, /*target=*/false);
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kDataLoss, HasSubstr("without a target")));
}

// Four bodies of one MiB, all 'x' as their sender says.
class BodiesAndDigestTest : public LyingPeerTest {
 protected:
  static constexpr int kBodies = 4;
  static constexpr size_t kBodyBytes = 1 << 20;

  void SetUp() override {
    TransferRules rules = BasicRules();
    rules.piece_bytes = kBodyBytes;
    Meet(rules);
  }

  void Begin(uint64_t id) {
    link_->Receive({}, [](auto) {});
    peer_->Send(Header(id, kBodies * kBodyBytes));
    Next<GrantFrame>();
  }
  void Body(uint64_t id, uint32_t body, char byte, uint32_t attempt = 0) {
    peer_->SendBody(1, {id, 1, body, attempt}, {kBodyBytes}, /*target=*/true,
                    byte);
  }
  absl::Status End(uint64_t id, std::vector<BodyAttempt> again = {}) {
    const std::string bytes(kBodies * kBodyBytes, 'x');
    ChunkedDigests digests({bytes.size()});
    digests.Add(0, reinterpret_cast<const std::byte*>(bytes.data()), 0,
                bytes.size());
    digests.Compute();
    peer_->Send(TrailerFrame{id, digests.Take(), std::move(again)});
    return Next<AckFrame>().status;
  }
};

TEST_F(BodiesAndDigestTest, WrongBytesOfAnyBodyAreDataLoss) {
  for (uint64_t wrong : {0, 1, 2, kBodies - 1, kBodies}) {
    const uint64_t id = wrong + 1;
    Begin(id);
    for (uint32_t i = 0; i < kBodies; ++i) Body(id, i, i == wrong ? 'y' : 'x');
    EXPECT_EQ(End(id).code(),
              wrong == kBodies ? StatusCode::kOk : StatusCode::kDataLoss);
  }
}

TEST_F(BodiesAndDigestTest, BodyThatComesAgainIsDigestedAsItCameLast) {
  Begin(1);
  Body(1, 0, 'y');
  Body(1, 1, 'x');
  Body(1, 0, 'x', /*attempt=*/1);
  Body(1, 2, 'y');
  Body(1, 3, 'x');
  Body(1, 2, 'x', /*attempt=*/1);
  EXPECT_THAT(End(1, {{0, 1}, {2, 1}}), IsOk());
  Begin(2);
  for (uint32_t i = 0; i < kBodies; ++i) Body(2, i, 'x');
  Body(2, 0, 'y', /*attempt=*/1);
  EXPECT_THAT(End(2, {{0, 1}}), StatusIs(StatusCode::kDataLoss));
}

TEST_F(LyingPeerTest, EagerBodyBeyondTheWindowEndsTheLink) {
  TransferRules rules = BasicRules();
  rules.limits.eager_bytes = 1 << 20;
  Meet(rules);
  peer_->Send(Header(1, 2 << 20));
  peer_->SendBody(1, {1, 1, 0, 0}, {2 << 20});
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("eager_bytes")));
}

TEST_F(LyingPeerTest, OperationBeyondTheLimitEndsTheLink) {
  TransferRules rules = BasicRules();
  rules.limits.operations_in_flight = 2;
  Meet(rules);
  for (int i = 1; i <= 3; ++i) peer_->Send(Header(i, 1 << 20));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("operations_in_flight is 2")));
}

TEST_F(LyingPeerTest, BytesBeyondTheLimitAreRefused) {
  TransferRules rules = BasicRules();
  rules.limits.bytes_in_flight = 3 << 20;
  Meet(rules);
  peer_->Send(Header(1, 2 << 20));
  peer_->Send(Header(2, 2 << 20));
  RefuseFrame refused = Next<RefuseFrame>();
  EXPECT_EQ(refused.operation, 2u);
  EXPECT_THAT(refused.status, StatusIs(StatusCode::kResourceExhausted,
                                       HasSubstr("bytes_in_flight")));
}

TEST_F(LyingPeerTest, ManifestsThatWaitAreBounded) {
  TransferRules rules = BasicRules();
  const HeaderFrame header = Header(1, 1 << 20);
  rules.limits.manifest_bytes = 2 * header.manifest.size();
  Meet(rules);
  for (int i = 1; i <= 3; ++i) peer_->Send(Header(i, 1 << 20));
  RefuseFrame refused = Next<RefuseFrame>();
  EXPECT_EQ(refused.operation, 3u);
  EXPECT_THAT(refused.status, StatusIs(StatusCode::kResourceExhausted,
                                       HasSubstr("manifest_bytes")));
}

TEST_F(LyingPeerTest, BodyForADeviceBeforeItsGrantIsNotRead) {
  TransferRules rules = BasicRules();
  PlacementRule to_cuda;
  to_cuda.target = {"cuda", 0};
  rules.incoming.rules = {to_cuda};
  Meet(rules);
  SerializeOptions options;
  options.placement = rules.incoming;
  absl::StatusOr<WriteBuffers> buffers =
      Serialize(TensorMessage{7, 0, "", {Pattern(1 << 20, 1)}, {}}, options);
  ASSERT_THAT(buffers, IsOk());
  HeaderFrame header = Header(1, 1 << 20);
  header.manifest = EncodeManifest(buffers->manifest());
  peer_->Send(header);
  peer_->SendBody(1, {1, 1, 0, 0}, {1 << 20});
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("before its GRANT")));
}

TEST_F(LyingPeerTest, BodyWhoseHeaderNeverComesBlocksItsLaneAlone) {
  Meet();
  peer_->SendBody(1, {2, 1, 0, 0}, {1 << 20});
  Outcome<Received> received;
  link_->Receive({}, received.done());
  peer_->Send(Header(1, 1 << 20));
  EXPECT_EQ(Next<GrantFrame>().operation, 1u);
  peer_->SendBody(2, {1, 1, 0, 0}, {1 << 20});
  peer_->Send(TrailerFrame{1, {}, {}});
  EXPECT_EQ(Next<AckFrame>().operation, 1u);
}

TEST_F(LyingPeerTest, LateBodiesOfWhatIsOverAreDropped) {
  Meet();
  peer_->Send(Header(1, 1 << 20));
  peer_->Send(CancelFrame{1, absl::CancelledError("changed my mind")});
  EXPECT_THAT(Next<RefuseFrame>().status, StatusIs(StatusCode::kCancelled));
  peer_->SendBody(1, {1, 1, 0, 0}, {1 << 20});
  peer_->Send(TrailerFrame{1, {}, {}});
  // The link lives.
  peer_->Send(Header(2, 1 << 20));
  link_->Receive({}, [](auto) {});
  EXPECT_EQ(Next<GrantFrame>().operation, 2u);
}

TEST_F(LyingPeerTest, SecondGrantEndsTheLink) {
  Meet();
  Outcome<Receipt> sent;
  link_->Send(PatternMessage(64 << 20, 1), {}, {}, sent.done());
  Next<HeaderFrame>();
  peer_->Send(GrantFrame{1});
  peer_->Send(GrantFrame{1});
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("second GRANT")));
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(LyingPeerTest, LeasesOfWhatWasNotLentEndTheLink) {
  Meet();
  Outcome<Receipt> sent;
  link_->Send(PatternMessage(1 << 20, 1), {}, {}, sent.done());
  Next<HeaderFrame>();
  peer_->Send(GrantFrame{1, /*leases=*/true});
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("leases what was not lent")));
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(LyingPeerTest, AckBeforeTheTrailerEndsTheLink) {
  Meet();
  Outcome<Receipt> sent;
  link_->Send(PatternMessage(64 << 20, 1), {}, {}, sent.done());
  Next<HeaderFrame>();
  peer_->Send(AckFrame{1, {}});
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("not sent yet")));
  EXPECT_FALSE(sent.Wait().ok());
}

TEST_F(LyingPeerTest, PeerThatTakesNothingIsOutwaited) {
  Meet(BasicRules(), &fake_clock_);
  SendOptions options;
  options.timeout = absl::Seconds(3);
  // More than the sockets hold, so that writes are stuck in the transport.
  at::Tensor source = Pattern(256 << 20, 1);
  TensorMessage message;
  message.tensors = {source};
  Outcome<Receipt> sent;
  link_->Send(std::move(message), {}, options, sent.done());
  Next<HeaderFrame>();
  peer_->Send(GrantFrame{1});
  ASSERT_TRUE(PassTimeUntil(sent, fake_clock_));
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kDeadlineExceeded));
}

}  // namespace
}  // namespace tensorferry
