// Peers that lie about lanes: strangers, those who dial, those who accept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/tensorpipe.h>

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "tests/transfer/raw_peer.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

using absl::StatusCode;

class LyingLanesTest : public LinkTest {
 protected:
  void MakeEndpoint(Clock* clock = Clock::Real()) {
    EndpointOptions options;
    options.executor = &executor_;
    options.clock = clock;
    if (clock == Clock::Real()) {
      options.data.handshake_timeout = absl::Minutes(1);  // of slow machines
    }
    absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
        Endpoint::Create(options);
    ASSERT_THAT(endpoint, IsOk());
    endpoint_ = *std::move(endpoint);
  }

  // The peer dials this side.
  void MeetDialer(std::vector<GivenUpPath> given_up = {},
                  Clock* clock = Clock::Real()) {
    MakeEndpoint(clock);
    absl::StatusOr<Endpoint::Expected> expected =
        endpoint_->Expect(rules_, up_.done(), down_.done());
    ASSERT_THAT(expected, IsOk());
    link_ = expected->link;
    absl::StatusOr<std::unique_ptr<RawPeer>> peer = RawPeer::Connect(
        expected->addresses, expected->key, rules_, std::move(given_up));
    ASSERT_THAT(peer, IsOk());
    peer_ = *std::move(peer);
    ASSERT_THAT(up_.Wait(), IsOk());
  }

  // The peer is about to dial this side.
  void MeetSilentDialer(Clock* clock = Clock::Real()) {
    MakeEndpoint(clock);
    absl::StatusOr<Endpoint::Expected> expected =
        endpoint_->Expect(rules_, up_.done(), nullptr);
    ASSERT_THAT(expected, IsOk());
    link_ = expected->link;
    peer_ =
        RawPeer::ConnectSilently(expected->addresses, expected->key, rules_);
  }

  HelloFrame GoodHello() {
    HelloFrame hello;
    hello.session_id = rules_.session_id;
    hello.wire = "unix";
    hello.generation = 1;
    hello.lanes = 1 + rules_.limits.body_lanes;
    return hello;
  }

  void ExpectReject(StatusCode code, const std::string& text) {
    absl::StatusOr<Frame> frame = peer_->Next();
    ASSERT_THAT(frame, IsOk());
    ASSERT_TRUE(std::holds_alternative<RejectFrame>(*frame));
    EXPECT_THAT(std::get<RejectFrame>(*frame).status,
                StatusIs(code, HasSubstr(text)));
  }

  // The next thing that happens on the lane is its end, in less than a minute.
  void ExpectTheEndOf(int lane) {
    StatusOutcome ended;
    executor_.Run(
        [&, done = ended.done()] { done(peer_->WaitForEndOf(lane)); });
    ASSERT_TRUE(PassTimeUntil(ended, fake_clock_));
    EXPECT_THAT(ended.Wait(), IsOk());
  }

  // This side dials the peer, who has said nothing yet.
  void DialAccepter(Clock* clock = Clock::Real()) {
    MakeEndpoint(clock);
    peer_ = RawPeer::Listen(rules_);
    endpoint_->Dial(peer_->addresses(), RawPeer::key(), rules_,
                    absl::Seconds(10), down_.done(), dialed_.done());
  }

  void MeetAccepter(Clock* clock = Clock::Real()) {
    DialAccepter(clock);
    ASSERT_THAT(peer_->AcceptAll(), IsOk());
    absl::StatusOr<std::shared_ptr<Link>> link = dialed_.Wait();
    ASSERT_THAT(link, IsOk());
    link_ = *std::move(link);
  }

  // Waits for a dial of that generation of lane 1.
  HelloFrame NextDial(uint32_t generation) {
    absl::StatusOr<HelloFrame> hello = peer_->Accept();
    EXPECT_THAT(hello, IsOk());
    if (!hello.ok()) return HelloFrame();
    EXPECT_EQ(hello->lane, 1u);
    EXPECT_EQ(hello->generation, generation);
    return *std::move(hello);
  }

  void ExpectLinkLives() {
    link_->Send(PatternMessage(10, 1), {}, {}, [](auto) {});
    absl::StatusOr<Frame> frame = peer_->Next();
    ASSERT_THAT(frame, IsOk());
    EXPECT_TRUE(std::holds_alternative<HeaderFrame>(*frame));
  }

  TransferRules rules_ = BasicRules();
  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  std::unique_ptr<RawPeer> peer_;
  StatusOutcome up_, down_;
  Outcome<std::shared_ptr<Link>> dialed_;
};

// ---- strangers and dialers

TEST_F(LyingLanesTest, LongFirstFrameIsTurnedAwayWhereverItIs) {
  MeetSilentDialer();
  peer_->SendBytes(std::string((64 << 10) + 1, 'x'));
  ExpectReject(StatusCode::kInvalidArgument, "65537 bytes and 0 inline");
}

TEST_F(LyingLanesTest, LaneWithoutAHelloIsClosedAfterAWhile) {
  MeetDialer({}, &fake_clock_);
  peer_->OpenLane();
  ExpectTheEndOf(1 + static_cast<int>(rules_.limits.body_lanes));
  ExpectLinkLives();
}

TEST_F(LyingLanesTest, LaneThatWasTurnedAwayIsClosed) {
  MeetSilentDialer();
  HelloFrame wrong = GoodHello();
  wrong.session_id = "another";
  peer_->SendOn(0, wrong);
  ExpectReject(StatusCode::kUnauthenticated, "of another session");
  EXPECT_THAT(peer_->WaitForEndOf(0), IsOk());
}

TEST_F(LyingLanesTest, PeerThatDoesNotFitIsToldOnceAndHasSomeTimeToGo) {
  MeetSilentDialer(&fake_clock_);
  HelloFrame newer = GoodHello();
  newer.wire_version = 9;
  peer_->SendOn(0, newer);
  peer_->SendOn(0, newer);
  peer_->SendOn(0, GoodHello());
  ExpectReject(StatusCode::kFailedPrecondition, "wire version 9");
  ExpectTheEndOf(0);
  EXPECT_THAT(up_.Wait(), StatusIs(StatusCode::kFailedPrecondition));
}

TEST_F(LyingLanesTest, LongFrameInTheMetadataEndsTheLink) {
  rules_.limits.manifest_bytes = 1000;
  rules_.limits.tensors = 1;
  rules_.limits.message_bytes = 1 << 20;
  MeetDialer();
  peer_->SendBytes(std::string(70 << 10, 'x'));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                     HasSubstr("passes the limits")));
}

TEST_F(LyingLanesTest, BytesBehindAFrameThatHasNoneEndTheLink) {
  HeaderFrame not_inline;
  not_inline.operation = 1;
  for (const Frame& frame : {Frame(not_inline), Frame(GrantFrame{1})}) {
    up_ = StatusOutcome();
    down_ = StatusOutcome();
    MeetDialer();
    peer_->Send(frame, "bytes");
    EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                       HasSubstr("5 bytes behind a frame")));
  }
}

TEST_F(LyingLanesTest, FramesDoNotPileUpForAPeerThatDoesNotRead) {
  MeetDialer();
  HeaderFrame refused;
  refused.plan_digest = std::string(256, 'p');
  for (refused.operation = 1; refused.operation < 40000; ++refused.operation) {
    peer_->Send(refused);
  }
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kResourceExhausted,
                                     HasSubstr("more than 1152 frames wait")));
}

TEST_F(LyingLanesTest, ErrorsOfTheAcceptingSideNameTheLane) {
  MeetDialer();
  peer_->CloseLane(0);
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("lane 0 to other")));
}

TEST_F(LyingLanesTest, GivenUpWiresThatAreNoneOfTheSessionAreForgotten) {
  MeetDialer({{"junk", absl::UnavailableError("")},
              {"unix", absl::UnavailableError("nobody there")}});
  Outcome<Receipt> sent;
  link_->Send(PatternMessage(10, 1), {}, {}, sent.done());
  ASSERT_THAT(peer_->Next(), IsOk());
  peer_->Send(AckFrame{1, {}});
  absl::StatusOr<Receipt> receipt = sent.Wait();
  ASSERT_THAT(receipt, IsOk());
  ASSERT_EQ(receipt->paths.size(), 2u);
  EXPECT_EQ(receipt->paths[0].path, "unix");
  EXPECT_EQ(receipt->paths[0].status, absl::UnavailableError("nobody there"));
  EXPECT_EQ(receipt->paths[1].path, "inline");
}

TEST_F(LyingLanesTest, DialerOverAWireThatIsNoneOfTheSessionIsTurnedAway) {
  MeetSilentDialer();
  HelloFrame hello = GoodHello();
  hello.wire = "pigeon";
  peer_->SendOn(0, hello);
  ExpectReject(StatusCode::kInvalidArgument, "pigeon");
}

// A leak is AddressSanitizer's to find.
TEST_F(LyingLanesTest, PipesThatComeWhileTheirLinkEndsLeaveWithIt) {
  for (int round = 0; round < 30; ++round) {
    up_ = StatusOutcome();
    MeetSilentDialer();
    for (int pipe = 0; pipe < 8; ++pipe) peer_->OpenLane();
    link_ = nullptr;
    endpoint_ = nullptr;
    peer_ = nullptr;
  }
}

// ---- accepters: while the link opens

TEST_F(LyingLanesTest, AnswerForAnotherLaneOrGenerationFailsTheDial) {
  for (auto [lane, generation] : {std::pair(1u, 1u), std::pair(0u, 2u)}) {
    dialed_ = Outcome<std::shared_ptr<Link>>();
    DialAccepter();
    absl::StatusOr<HelloFrame> hello = peer_->Accept();
    ASSERT_THAT(hello, IsOk());
    HelloFrame answer = peer_->Answer(*hello);
    answer.lane = hello->lane + lane;
    answer.lanes += 1;
    answer.generation = generation;
    peer_->SendOn(static_cast<int>(hello->lane), answer);
    EXPECT_THAT(dialed_.Wait(), StatusIs(StatusCode::kInvalidArgument,
                                         HasSubstr("HELLO answers for lane")));
  }
}

TEST_F(LyingLanesTest, RejectedDialIsTheReason) {
  DialAccepter();
  absl::StatusOr<HelloFrame> hello = peer_->Accept();
  ASSERT_THAT(hello, IsOk());
  peer_->SendOn(static_cast<int>(hello->lane),
                RejectFrame{absl::PermissionDeniedError("not you")});
  EXPECT_THAT(dialed_.Wait(),
              StatusIs(StatusCode::kPermissionDenied, HasSubstr("not you")));
}

TEST_F(LyingLanesTest, AddressesThatAreNoneOfTheSessionAreInvalid) {
  MakeEndpoint();
  auto dial = [&](std::vector<std::string> addresses) {
    Outcome<std::shared_ptr<Link>> dialed;
    endpoint_->Dial(std::move(addresses), RawPeer::key(), rules_,
                    absl::Seconds(10), nullptr, dialed.done());
    return dialed.Wait().status();
  };
  EXPECT_THAT(dial({}), StatusIs(StatusCode::kInvalidArgument,
                                 HasSubstr("named no address")));
  EXPECT_THAT(dial({"x://127.0.0.1:1"}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(dial({"tcp://127.0.0.1:1"}),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("over the wire \"tcp\"")));
}

// ---- accepters: REOPEN

TEST_F(LyingLanesTest, ReopenOfWhatIsNoBodyLaneEndsTheLink) {
  for (uint32_t lane : {0, 5}) {
    down_ = StatusOutcome();
    dialed_ = Outcome<std::shared_ptr<Link>>();
    MeetAccepter();
    peer_->Send(ReopenFrame{lane, 2});
    EXPECT_THAT(down_.Wait(),
                StatusIs(StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("REOPEN of lane ", lane))));
  }
}

TEST_F(LyingLanesTest, ReopenedLaneIsDialedWithItsGeneration) {
  MeetAccepter();
  peer_->Send(ReopenFrame{1, 7});
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  peer_->SendOn(1, peer_->Answer(NextDial(7)));
  ExpectLinkLives();
}

TEST_F(LyingLanesTest, ReopenSaidTwiceOrOfAnOldGenerationIsIgnored) {
  MeetAccepter();
  for (uint32_t generation : {2, 2, 1, 0}) {
    peer_->Send(ReopenFrame{1, generation});
  }
  HelloFrame hello = NextDial(2);
  peer_->Send(ReopenFrame{1, 2});
  peer_->SendOn(1, peer_->Answer(hello));
  peer_->Send(ReopenFrame{1, 2});
  ExpectLinkLives();
}

TEST_F(LyingLanesTest, ReopenOvertakesTheDialOfAnOlderOne) {
  MeetAccepter();
  peer_->Send(ReopenFrame{1, 2});
  NextDial(2);
  peer_->Send(ReopenFrame{1, 3});
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  peer_->SendOn(1, peer_->Answer(NextDial(3)));
  ExpectLinkLives();
}

TEST_F(LyingLanesTest, RedialThatIsTurnedAwayMayBeOfferedAgain) {
  MeetAccepter();
  peer_->Send(ReopenFrame{1, 2});
  NextDial(2);
  peer_->SendOn(1, RejectFrame{absl::UnauthenticatedError("overtaken")});
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  peer_->Send(ReopenFrame{1, 3});
  HelloFrame wrong = peer_->Answer(NextDial(3));
  wrong.generation = 9;
  peer_->SendOn(1, wrong);
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  peer_->Send(ReopenFrame{1, 4});
  peer_->SendOn(1, peer_->Answer(NextDial(4)));
  ExpectLinkLives();
}

TEST_F(LyingLanesTest, LaneThatIsNotOpenedAgainInTimeEndsTheLink) {
  MeetAccepter(&fake_clock_);
  peer_->Send(ReopenFrame{1, 2});
  NextDial(2);
  peer_->SendOn(1, RejectFrame{absl::UnauthenticatedError("no more")});
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  ExpectLinkLives();
  fake_clock_.Advance(absl::Seconds(6));
  EXPECT_THAT(down_.Wait(),
              StatusIs(StatusCode::kUnavailable,
                       HasSubstr("lane 1 to other could not be opened")));
}

// All of this comes in one turn of the loop's, ahead of the link's end.
TEST_F(LyingLanesTest, ReopenOfALaneThatEndedAfterTheLinkFailedIsNotHeard) {
  MeetAccepter();
  HeldLoop loop(*link_);
  ASSERT_THAT(peer_->Next(), IsOk());
  peer_->Send(AckFrame{1, {}});
  loop.AwaitHeld();
  tensorpipe::Message no_body;
  no_body.metadata = "no body";
  peer_->SendMessage(2, std::move(no_body));
  peer_->CloseLane(1);
  peer_->Send(ReopenFrame{1, 2});
  loop.GoOn();
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(LyingLanesTest, PeerThatIsUpEarlierMayResetALaneAtOnce) {
  DialAccepter();
  std::vector<HelloFrame> hellos;
  for (size_t i = 0; i <= rules_.limits.body_lanes; ++i) {
    absl::StatusOr<HelloFrame> hello = peer_->Accept();
    ASSERT_THAT(hello, IsOk());
    hellos.push_back(*std::move(hello));
  }
  for (const HelloFrame& hello : hellos) {
    if (hello.lane == 0) peer_->SendOn(0, peer_->Answer(hello));
  }
  peer_->CloseLane(1);
  peer_->Send(ReopenFrame{1, 2});
  peer_->SendOn(1, peer_->Answer(NextDial(2)));
  for (const HelloFrame& hello : hellos) {
    if (hello.lane <= 1) continue;
    peer_->SendOn(static_cast<int>(hello.lane), peer_->Answer(hello));
  }
  absl::StatusOr<std::shared_ptr<Link>> link = dialed_.Wait();
  ASSERT_THAT(link, IsOk());
  link_ = *std::move(link);
  ExpectLinkLives();
}

}  // namespace
}  // namespace tensorferry
