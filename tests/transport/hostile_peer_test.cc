// A peer that knows the key and lies, on either side of a real tensorpipe. Its
// own pipes may fail; nothing else may.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/transport/allocation_limit.h"
#include "tests/transport/hello.h"
#include "tests/transport/pipe_fixture.h"
#include "tests/transport/raw_peer.h"
#include "transport/hub.h"
#include "transport/hub_error.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::StatusIs;

std::string Packet(const std::string& body) {
  return RawFrame(FrameKind::kPacket, body);
}

// Each prefix of `good` and each with one bit flipped.
std::vector<std::string> MutationsOf(const std::string& good) {
  std::vector<std::string> out;
  for (size_t cut = 0; cut < good.size(); ++cut) {
    out.push_back(good.substr(0, cut));
  }
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string flipped = good;
    flipped[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    out.push_back(flipped);
  }
  return out;
}

class HostileClientTest : public ::testing::Test {
 protected:
  HostileClientTest() {
    hub_ = *Hub::Create({.loop = loop_.get()});
    session_.emplace(*Session::Open(*hub_, *hub_, {Wire::kUnix}, key_));
  }
  ~HostileClientTest() override {
    EXPECT_THAT(TryHonestSession(*hub_, Wire::kUnix), IsOk());
    EXPECT_EQ(hub_->counters().tensorpipe_threw, 0u);
  }

  RawSocket Dial() {
    auto socket = RawDial(session_->address(), key_, ++number_);
    EXPECT_TRUE(socket.has_value());
    return *std::move(socket);
  }

  // A pipe of which this test is the dialing end; nullptr: no such pipe.
  std::shared_ptr<tensorpipe::Pipe> OpenPipe(RawSocket& primary) {
    std::promise<std::shared_ptr<tensorpipe::Pipe>> accepted;
    session_->listener().accept([&](const tensorpipe::Error& error,
                                    std::shared_ptr<tensorpipe::Pipe> pipe) {
      accepted.set_value(error ? nullptr : std::move(pipe));
    });
    primary.Send(Packet(SpontaneousHello()) + Packet(GoodBrochure()));
    auto pipe = accepted.get_future().get();
    // The answer names the connections that have still to come; their numbers
    // are counted from 0 for the listener.
    const std::string header = primary.Read(8);
    primary.Read(static_cast<uint8_t>(header[0]));
    for (int i = 0; i < 2; ++i) {
      side_.push_back(Dial());
      side_.back().Send(Packet(RequestedHello(next_id_++)));
    }
    return pipe;
  }

  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  const SessionKey key_ = RandomSession();
  std::unique_ptr<Hub> hub_;
  std::optional<Session> session_;
  uint64_t number_ = 100;  // the honest one counts from 1
  uint16_t next_id_ = 0;
  std::vector<RawSocket> side_;
};

TEST_F(HostileClientTest, FirstFramesOutOfBoundsEndTheirConnectionOnly) {
  std::vector<std::string> frames = {
      RawHeader('P', 0),
      RawHeader('P', 4097),
      RawHeader('P', (uint64_t{1} << 56) - 1),
      RawHeader('B', 8) + std::string(8, 'x'),
      RawHeader(0, 0),
      RawHeader(0xff, ~uint64_t{0}),
  };
  for (const std::string& body : MutationsOf(RequestedHello(99))) {
    frames.push_back(Packet(body));
  }
  for (const std::string& frame : frames) {
    RawSocket socket = Dial();
    socket.Send(frame);
  }
  auto ends = session_->OpenPipe();
  EXPECT_THAT(ends, IsOk());
}

TEST_F(HostileClientTest, NoBrochureMakesTensorpipeThrow) {
  for (const std::string& body : MutationsOf(GoodBrochure())) {
    RawSocket socket = Dial();
    socket.Send(Packet(SpontaneousHello()) + Packet(body));
  }
  for (const std::string& body :
       {std::string("\xb9\x02\xbb\x00\xbb\x00", 6), std::string(5000, '\xb9'),
        std::string("\xb9\x02\xbb\x83\xff\xff\xff\xff\xff\xff\xff\xff", 12)}) {
    RawSocket socket = Dial();
    socket.Send(Packet(SpontaneousHello()) + Packet(body));
  }
  for (int id = 0; id < 128; ++id) {
    RawSocket socket = Dial();
    socket.Send(Packet(RequestedHello(static_cast<uint16_t>(id))));
  }
  session_->DropPipes();  // which have their brochures by now
}

TEST_F(HostileClientTest, APayloadOfAnotherLengthIsDataLoss) {
  for (const size_t sent : {0, 1, 7, 9, 64, 100000}) {
    RawSocket primary = Dial();
    auto pipe = OpenPipe(primary);
    ASSERT_NE(pipe, nullptr);
    primary.Send(Packet(GoodDescriptor(8)) +
                 RawFrame(FrameKind::kBytes, std::string(sent, 'x')));
    EXPECT_THAT(Receive(*pipe), StatusIs(absl::StatusCode::kDataLoss)) << sent;
  }
  RawSocket primary = Dial();
  auto pipe = OpenPipe(primary);
  primary.Send(Packet(GoodDescriptor(8)) +
               RawFrame(FrameKind::kBytes, "12345678"));
  auto letter = Receive(*pipe);
  ASSERT_THAT(letter, IsOk());
  EXPECT_EQ(letter->payloads.front(), "12345678");
}

TEST_F(HostileClientTest, NoDescriptorMakesTensorpipeThrow) {
  for (const std::string& body : MutationsOf(GoodDescriptor(8))) {
    RawSocket primary = Dial();
    auto pipe = OpenPipe(primary);
    ASSERT_NE(pipe, nullptr);
    primary.Send(Packet(body));
    primary.Reset();
    auto letter = Receive(*pipe);
    ASSERT_FALSE(letter.ok());
    ASSERT_FALSE(absl::IsDeadlineExceeded(letter.status()));
    side_.clear();
  }
}

TEST_F(HostileClientTest, APacketThatIsAnnouncedTakesNoMemory) {
  AllocationLimit allocations(uint64_t{1} << 30);
  for (int i = 0; i < 16; ++i) {
    RawSocket socket = Dial();
    socket.Send(Packet(SpontaneousHello()) +
                RawHeader('P', uint64_t{64} << 20));
    side_.push_back(std::move(socket));
  }
  // Behind them, so that they have been looked at.
  EXPECT_THAT(session_->OpenPipe(), IsOk());
  EXPECT_LT(allocations.largest(), size_t{1} << 20);
  session_->DropPipes();
}

TEST_F(HostileClientTest, APacketThatFindsNoMemoryEndsItsPipeOnly) {
  RawSocket primary = Dial();
  auto pipe = OpenPipe(primary);
  ASSERT_NE(pipe, nullptr);
  const std::string packet = Packet(std::string(8 << 20, 'x'));
  {
    AllocationLimit allocations(size_t{1} << 20);
    // It is read as soon as somebody wants a message.
    auto sent =
        std::async(std::launch::async, [&] { return primary.Send(packet); });
    EXPECT_THAT(Receive(*pipe), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_FALSE(sent.get());
  }
  EXPECT_EQ(hub_->counters().broken_frames, 0u);
}

class HostileServerTest : public ::testing::TestWithParam<Wire> {
 protected:
  HostileServerTest() { hub_ = *Hub::Create({.loop = loop_.get()}); }
  ~HostileServerTest() override {
    EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
  }

  // What an honest dialing side makes of a server that answers its brochure
  // with `answer`.
  void TryAnswer(const std::string& answer) {
    bool wedged = false;
    const SessionKey key = RandomSession();
    auto dialed =
        hub_->Dial(key, listener_.address(),
                   {.on_wedged = [&](absl::Status) { wedged = true; }});
    ASSERT_THAT(dialed, IsOk());
    auto side = std::make_unique<Side>(*dialed);
    std::shared_ptr<tensorpipe::Pipe> pipe;
    // On the loop, where what tensorpipe throws is caught.
    OnLoop([&] { pipe = side->context().connect("ferry://pinned"); });
    auto primary = listener_.AcceptSession(key);
    ASSERT_TRUE(primary.has_value());
    primary->Send(answer);
    primary->Reset();
    auto ended = std::make_shared<std::promise<void>>();
    OnLoop([&] {
      pipe->readDescriptor(
          [ended](const tensorpipe::Error& error, tensorpipe::Descriptor) {
            EXPECT_TRUE(error);
            ended->set_value();
          });
    });
    auto future = ended->get_future();
    bool over = false;
    while (!over) {
      over = future.wait_for(std::chrono::milliseconds(1)) ==
             std::future_status::ready;
      OnLoop([&] { over |= wedged; });
    }
    if (wedged) {
      // Its context can only be left to itself, as ContextEvents says.
      ++wedged_;
      static auto* const left_alone = new std::vector<
          std::pair<std::unique_ptr<Side>, std::shared_ptr<tensorpipe::Pipe>>>;
      left_alone->emplace_back(std::move(side), std::move(pipe));
      (*dialed)->close();
    }
    pipe = nullptr;
    side = nullptr;
    while (listener_.HasMore()) listener_.Accept();
  }

  template <class F>
  void OnLoop(F run) {
    std::promise<void> ran;
    loop_->Post([&] {
      run();
      ran.set_value();
    });
    ran.get_future().wait();
  }

  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  std::unique_ptr<Hub> hub_;
  RawListener listener_{GetParam()};
  int wedged_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Wires, HostileServerTest,
                         ::testing::Values(Wire::kUnix, Wire::kTcp),
                         [](const auto& info) {
                           return std::string(ToString(info.param));
                         });

TEST_P(HostileServerTest, NoAnswerCostsMoreThanItsSession) {
  for (const std::string& body : MutationsOf(GoodAnswer())) {
    TryAnswer(Packet(body));
  }
  // Only one kind of lie is left that tensorpipe finds out itself, and throws
  // for: a device descriptor that does not go with the channel it chose.
  EXPECT_LE(wedged_, 8 * 3);
}

TEST_P(HostileServerTest, FramesOutOfBoundsEndThePipe) {
  for (const std::string& frame :
       {RawHeader('P', 0), RawHeader('P', (uint64_t{64} << 20) + 1),
        RawHeader('B', 8) + "12345678", RawHeader(0, 0),
        RawHeader(0xff, ~uint64_t{0}), std::string("HTTP/1.1 400 \r\n\r\n")}) {
    TryAnswer(frame);
  }
  EXPECT_EQ(wedged_, 0);
}

TEST_P(HostileServerTest, ASideConnectionGoesToThePinnedAddress) {
  const SessionKey key = RandomSession();
  RawListener elsewhere(GetParam());
  auto dialed = hub_->Dial(key, listener_.address(), {});
  ASSERT_THAT(dialed, IsOk());
  Side side(*dialed);
  auto pipe = side.context().connect("ferry://" + elsewhere.address());
  auto primary = listener_.AcceptSession(key);
  ASSERT_TRUE(primary.has_value());
  // "session" is where the answer has its address; seven bytes are enough.
  std::string answer = GoodAnswer();
  answer.replace(answer.find("session"), 7, "x://1:2");
  primary->Send(Packet(answer));
  auto replies = listener_.AcceptSession(key);
  EXPECT_TRUE(replies.has_value());
  auto channel = listener_.AcceptSession(key);
  EXPECT_TRUE(channel.has_value());
  EXPECT_FALSE(elsewhere.HasMore());
}

// Whatever it answers: it hears what opens a pipe, and no buffer.
TEST_P(HostileServerTest, AServerWithoutTheKeyIsSentNoBuffer) {
  const SessionKey key = RandomSession();
  auto dialed = hub_->Dial(key, listener_.address(), {});
  ASSERT_THAT(dialed, IsOk());
  std::shared_ptr<tensorpipe::transport::Connection> connection;
  std::promise<absl::Status> written;
  Hello hello;
  OnLoop([&] {
    connection = (*dialed)->connect("anything");
    connection->write(hello, [](const tensorpipe::Error&) {});
    connection->write("secret", 6, [&](const tensorpipe::Error& error) {
      written.set_value(error ? FromTensorpipeError(error.what())
                              : absl::OkStatus());
    });
  });
  RawSocket socket = listener_.Accept();
  const size_t hello_bytes = 48 + key.session_id.size() + 32;
  EXPECT_EQ(socket.Read(hello_bytes).size(), hello_bytes);
  socket.Send(
      absl::StrCat("TFDP\x02", std::string(3, '\0'), std::string(32, 'p')));
  EXPECT_THAT(written.get_future().get(),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(socket.Read(1 << 20), Packet(SpontaneousHello()));
  (*dialed)->join();
}

}  // namespace
}  // namespace tensorferry
