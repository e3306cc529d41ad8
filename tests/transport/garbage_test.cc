// What strangers do at the listening sockets. After each: the process lives and
// an honest session works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/transport/pipe_fixture.h"
#include "tests/transport/raw_peer.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/handshake.h"
#include "transport/hub.h"

namespace tensorferry {
namespace {

using testing::IsOk;

class GarbageTest : public ::testing::TestWithParam<Wire> {
 protected:
  void SetUp() override { Start(Clock::Real()); }

  void Start(Clock* clock) {
    hub_ = nullptr;
    loop_ = *PollLoop::Create(clock);
    auto hub = Hub::Create({.loop = loop_.get()});
    ASSERT_THAT(hub, IsOk());
    hub_ = *std::move(hub);
    auto expected =
        hub_->Expect(key_, {GetParam()}, absl::InfiniteFuture(), {});
    ASSERT_THAT(expected, IsOk());
    context_ = expected->context;
    address_ = expected->addresses.front();
  }

  void TearDown() override {
    EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
    // Nobody but the honest.
    EXPECT_EQ(hub_->counters().accepted, kConnectionsOfAPipe);
    EXPECT_EQ(hub_->counters().tensorpipe_threw, 0u);
    context_->join();
    hub_ = nullptr;
  }

  // Its own, the replies', and one of the channel basic.
  static constexpr uint64_t kConnectionsOfAPipe = 3;

  const SessionKey key_ = RandomSession();
  std::unique_ptr<PollLoop> loop_;
  std::unique_ptr<Hub> hub_;
  std::shared_ptr<tensorpipe::transport::Context> context_;
  // The first thing that somebody who knows `key` says over TLS.
  std::string TlsHello(const SessionKey& key) {
    RawListener listener(Wire::kTls);
    auto dialing = *hub_->Dial(key, listener.address(), {});
    auto connection = dialing->connect("anything");
    RawSocket dialed = listener.Accept();
    const std::string header = dialed.Read(5);
    const size_t length =
        static_cast<uint8_t>(header[3]) << 8 | static_cast<uint8_t>(header[4]);
    std::string hello = header + dialed.Read(length);
    connection->close();
    dialing->join();
    return hello;
  }

  // Whether one who dials with `key` is let in.
  bool LetsIn(const SessionKey& key, uint64_t number) {
    if (GetParam() != Wire::kTls) {
      return RawDial(address_, key, number).has_value();
    }
    auto dialing = *hub_->Dial(key, address_, {});
    auto connection = dialing->connect("anything");
    std::promise<bool> written;
    connection->write("x", 1, [&](const tensorpipe::Error& error) {
      written.set_value(!error);
    });
    const bool in = written.get_future().get();
    dialing->join();
    return in;
  }

  std::string address_;
};

constexpr char kInTls[] =
    "nobody else can speak inside TLS; records that are cut, changed or played "
    "again: tests/reliability/intruder_test.cc";

INSTANTIATE_TEST_SUITE_P(Wires, GarbageTest,
                         ::testing::Values(Wire::kUnix, Wire::kTcp, Wire::kTls),
                         [](const auto& info) {
                           return std::string(ToString(info.param));
                         });

TEST_P(GarbageTest, OutlivesAThousandPortScans) {
  for (int i = 0; i < 1000; ++i) RawConnect(address_);
}

TEST_P(GarbageTest, OutlivesResets) {
  for (int i = 0; i < 200; ++i) {
    RawSocket socket = RawConnect(address_);
    if (i % 2 == 0) socket.Send("TFDP");
    socket.Reset();
  }
}

TEST_P(GarbageTest, TurnsAwayOtherProtocols) {
  std::mt19937 random(4);
  std::vector<std::string> garbage = {
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + std::string(200, ' '),
      std::string(64, '\0'),
      RawHeader('P', 0) + std::string(64, '\0'),
      RawHeader('P', uint64_t{1} << 55) + std::string(64, 'x'),
      std::string(64, '\xff'),
      std::string("\x16\x03\x01\x00\x10", 5) + std::string(64, 'x'),
      "TFDP" + std::string(300, '\xff'),
  };
  for (int i = 0; i < 300; ++i) {
    std::string bytes(1 + random() % 400, 0);
    for (char& byte : bytes) byte = static_cast<char>(random());
    garbage.push_back(bytes + std::string(64, '\0'));
  }
  for (const std::string& bytes : garbage) {
    RawSocket socket = RawConnect(address_);
    socket.Send(bytes);
    // TLS may wait for the rest of what looks like a long record.
    if (bytes[0] == 0x16) socket.FinishSending();
    EXPECT_TRUE(socket.WaitUntilClosed());
  }
}

TEST_P(GarbageTest, TurnsAwayWhatOnlyBeginsLikeTls) {
  const std::string hello = TlsHello(key_);
  ASSERT_GT(hello.size(), 100u);
  std::vector<std::string> garbage = {TlsHello(RandomSession())};
  for (size_t cut = 1; cut < hello.size(); ++cut) {
    garbage.push_back(hello.substr(0, cut));
  }
  for (size_t at = 1; at < hello.size(); ++at) {
    std::string flipped = hello;
    flipped[at] ^= static_cast<char>(1 << (at % 8));
    garbage.push_back(flipped);
  }
  // The lengths of the record and of the message in it.
  for (const size_t at : {3, 4, 6, 7, 8}) {
    for (const int length : {0, 1, 4, 0x3f, 0x40, 0x41, 0xff}) {
      std::string changed = hello;
      changed[at] = static_cast<char>(length);
      garbage.push_back(changed);
      garbage.push_back(changed + std::string(1 << 16, 'x'));
    }
  }
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    std::string bytes("\x16\x03\x01", 3);
    while (bytes.size() < 300) bytes.push_back(static_cast<char>(random()));
    garbage.push_back(bytes);
  }
  for (const std::string& bytes : garbage) {
    RawSocket socket = RawConnect(address_);
    socket.Send(bytes);
    socket.FinishSending();
    EXPECT_TRUE(socket.WaitUntilClosed());
  }
}

TEST_P(GarbageTest, ClosesWhoSaysTooLittleWhenTheTimeIsOver) {
  context_->join();
  FakeClock clock;
  Start(&clock);
  std::vector<RawSocket> sockets;
  for (size_t bytes = 0; bytes < 8; ++bytes) {
    sockets.push_back(RawConnect(address_));
    sockets.back().Send(std::string("TFDP\2\1\4").substr(0, bytes));
    // Answered by the hub, so that those before are in.
    EXPECT_FALSE(RawDial(address_, RandomSession(), 1).has_value());
  }
  clock.Advance(absl::Seconds(5));
  for (RawSocket& socket : sockets) EXPECT_TRUE(socket.WaitUntilClosed());
  EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
  // The clock goes before the loop does not.
  context_->join();
  hub_ = nullptr;
  loop_ = nullptr;
  Start(Clock::Real());
}

TEST_P(GarbageTest, FiveHundredIdleConnectionsKeepNobodyOut) {
  std::vector<RawSocket> idle;
  for (int i = 0; i < 500; ++i) idle.push_back(RawConnect(address_));
  EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
  idle.clear();
  context_->join();
  Start(Clock::Real());
}

TEST_P(GarbageTest, KnowsAKeyThatIsWrongInOneBit) {
  for (int bit = 0; bit < 128; ++bit) {
    SessionKey wrong = key_;
    wrong.key[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_FALSE(LetsIn(wrong, bit)) << "bit " << bit;
  }
  EXPECT_TRUE(LetsIn(key_, 128));
}

TEST_P(GarbageTest, TakesNoProofASecondTime) {
  if (GetParam() == Wire::kTls) GTEST_SKIP() << kInTls;
  const Nonce nonce = *RandomNonce();
  // What an eavesdropper has: all that a good client said.
  std::string said;
  {
    ClientHandshake good(key_, GetParam(), 1, nonce);
    said = OutputOf(good);
    RawSocket socket = RawConnect(address_);
    socket.Send(said);
    const std::string answer = socket.Read(good.wanted());
    const auto* data = reinterpret_cast<const uint8_t*>(answer.data());
    ASSERT_THAT(good.Receive({data, answer.size()}), IsOk());
    ASSERT_TRUE(good.proved());
  }
  // As it is, and for a connection number that nobody has used.
  std::string for_another = said;
  constexpr size_t kNumberAt = 8;
  for_another[kNumberAt] = 2;
  for (const std::string& replayed : {said, for_another}) {
    RawSocket socket = RawConnect(address_);
    socket.Send(replayed);
    socket.Send(RawFrame(FrameKind::kPacket, SpontaneousHello()));
    EXPECT_TRUE(socket.WaitUntilClosed());
  }
  EXPECT_TRUE(LetsIn(key_, 2));
}

TEST_P(GarbageTest, TakesEachConnectionNumberOnce) {
  if (GetParam() == Wire::kTls) GTEST_SKIP() << kInTls;
  // Proved, but without a first frame: nobody is told of it.
  auto first = RawDial(address_, key_, 7);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(RawDial(address_, key_, 7).has_value());
}

// Each byte of a good handshake cut off, each bit of it flipped.
TEST_P(GarbageTest, TakesNoHandshakeThatIsCutOrChanged) {
  if (GetParam() == Wire::kTls) GTEST_SKIP() << kInTls;
  const SessionKey& key = key_;
  const std::string first_frame =
      RawFrame(FrameKind::kPacket, SpontaneousHello());
  // Where a hello says how long the id behind it is.
  constexpr int kIdLengthAt = 6;
  uint64_t number = 100;
  const auto attempt = [&](size_t cut, int flip) {
    ClientHandshake good(key, GetParam(), ++number, *RandomNonce());
    std::string bytes = OutputOf(good);
    bytes.resize(cut);
    if (flip >= 0) bytes[flip / 8] ^= static_cast<char>(1 << (flip % 8));
    RawSocket socket = RawConnect(address_);
    socket.Send(bytes);
    if (flip < 0) return;
    // As much as it now says there is: else it is waited for.
    if (flip / 8 == kIdLengthAt) {
      socket.Send(std::string(SessionKey::kLongestId, 'x'));
    }
    socket.Send(first_frame);
    EXPECT_TRUE(socket.WaitUntilClosed()) << "bit " << flip;
  };
  const size_t length = 48 + key.session_id.size() + 32;
  for (size_t cut = 0; cut < length; ++cut) attempt(cut, -1);
  for (int flip = 0; flip < static_cast<int>(8 * length); ++flip) {
    attempt(length, flip);
  }
}

}  // namespace
}  // namespace tensorferry
