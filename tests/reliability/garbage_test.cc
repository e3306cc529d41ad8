// Strangers at every port of a process, control and data. After each: it runs,
// a session that was there goes on, a new one is served, nothing is held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/raw_socket.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/witness.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsAlive;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::ListeningSocket;
using ::tensorferry::testing::ListeningSockets;
using ::tensorferry::testing::RawListener;
using ::tensorferry::testing::RawSocket;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::Witness;

constexpr int kTlsRecords = 0x16;
// What gRPC takes for its first thousands of connections and keeps. Data ports
// take nothing: see DataPortsTakeNoMemory.
constexpr uint64_t kMoreForGrpc = uint64_t{32} << 20;

std::string LittleEndian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// A TLS 1.2 ClientHello as a scanner sends it.
std::string TlsHello() {
  std::string random(32, '\x5a');
  std::string hello = absl::StrCat("\x03\x03", random);
  hello += std::string("\x00\x00\x04\x13\x01\x13\x02\x01\x00", 9);
  std::string handshake = {'\x01', '\0', static_cast<char>(hello.size() >> 8),
                           static_cast<char>(hello.size())};
  handshake += hello;
  std::string record = {static_cast<char>(kTlsRecords), '\x03', '\x01',
                        static_cast<char>(handshake.size() >> 8),
                        static_cast<char>(handshake.size())};
  return record + handshake;
}

std::string RandomBytes(std::mt19937& random, size_t most) {
  std::string bytes(random() % most + 1, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// One server for all tests: what one of them leaves behind, the next would see.
class GarbageTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = RemotePeer::Start({"name=server"}).value().release();
    witness_ = new Witness(*server_);
  }
  static void TearDownTestSuite() {
    delete witness_;
    delete server_;
  }

  void SetUp() override {
    ports_ = ListeningSockets(server_->pid());
    ASSERT_GE(ports_.size(), 2u) << "of control and data";
  }
  void TearDown() override { witness_->ExpectUnharmed(kMoreForGrpc); }

  bool IsControl(const ListeningSocket& port) const {
    return ToString(port) == server_->address();
  }

  // A connection to `port`; the server must still take it.
  static RawSocket Open(const ListeningSocket& port) {
    absl::StatusOr<RawSocket> socket = RawSocket::Connect(port);
    EXPECT_THAT(socket, IsOk()) << ToString(port);
    return socket.ok() ? *std::move(socket) : RawSocket(-1);
  }

  // Sends it to every port, `times` times, each on a connection of its own.
  void SendEverywhere(const std::string& bytes, int times = 20) {
    for (const ListeningSocket& port : ports_) {
      for (int i = 0; i < times; ++i) Open(port).Send(bytes);
      EXPECT_TRUE(IsAlive(server_->pid())) << ToString(port);
    }
  }

  // While strangers may still be there, who are silent for up to 5 s; what a
  // session that has just ended had goes meanwhile.
  static void ExpectNoMoreMemoryThan(uint64_t before) {
    uint64_t now = 0;
    EXPECT_TRUE(Becomes(
        [&] {
          now = witness_->LookAtHeld().memory;
          return now <= before + (uint64_t{1} << 20);
        },
        absl::Seconds(3)))
        << "before: " << before << " bytes, now: " << now;
  }

  static RemotePeer* server_;
  static Witness* witness_;
  std::vector<ListeningSocket> ports_;
};

RemotePeer* GarbageTest::server_ = nullptr;
Witness* GarbageTest::witness_ = nullptr;

TEST_F(GarbageTest, AThousandConnectionsThatCloseAtOnce) {
  SendEverywhere("", 1000);
}

TEST_F(GarbageTest, AThousandConnectionsThatAreReset) {
  for (const ListeningSocket& port : ports_) {
    for (int i = 0; i < 1000; ++i) {
      RawSocket socket = Open(port);
      if (i % 2 == 1) socket.Send("abcd");
      socket.Reset();
    }
  }
}

TEST_F(GarbageTest, DataPortsTakeNoMemory) {
  const uint64_t before = witness_->LookAtHeld().memory;
  for (const ListeningSocket& port : ports_) {
    if (IsControl(port)) continue;
    for (int i = 0; i < 1000; ++i) {
      RawSocket socket = Open(port);
      socket.Send(LittleEndian(i) + std::string(i, 'x'));
      socket.Reset();
    }
  }
  witness_->ExpectServed();
  ExpectNoMoreMemoryThan(before);
}

TEST_F(GarbageTest, HttpRequest) {
  SendEverywhere("GET / HTTP/1.1\r\nHost: tensors\r\n\r\n");
}

TEST_F(GarbageTest, TlsHello) { SendEverywhere(TlsHello()); }

TEST_F(GarbageTest, TlsRecordsThatAreMalformed) {
  const std::string hello = TlsHello();
  for (size_t cut = 1; cut < hello.size(); ++cut) {
    SendEverywhere(hello.substr(0, cut), 2);
  }
  // The lengths of the record and of the message in it.
  for (const size_t at : {3, 4, 6, 7, 8}) {
    for (const int length : {0, 1, 0x40, 0xff}) {
      std::string changed = hello;
      changed[at] = static_cast<char>(length);
      SendEverywhere(changed, 2);
      SendEverywhere(changed + std::string(1 << 16, 'x'), 2);
    }
  }
  SendEverywhere(std::string("\x16\x03\x01\x00\x00", 5));
  SendEverywhere(std::string("\x16\x03\x01\xff\xff", 5) +
                 std::string(100000, '\xff'));
}

TEST_F(GarbageTest, LengthsOfZero) {
  SendEverywhere(std::string(8, '\0'));
  SendEverywhere(std::string(4096, '\0'));
}

TEST_F(GarbageTest, LengthsBeyondAllMemory) {
  for (uint64_t length : {uint64_t{1} << 60, ~uint64_t{0}}) {
    SendEverywhere(LittleEndian(length));
    SendEverywhere(LittleEndian(length) + std::string(1000, 'x'));
    SendEverywhere(std::string(8, '\0') + LittleEndian(length));
  }
}

TEST_F(GarbageTest, AnnouncedGigabytesTakeNoMemory) {
  const uint64_t before = witness_->LookAtHeld().memory;
  std::vector<RawSocket> held;
  for (const ListeningSocket& port : ports_) {
    for (int i = 0; i < 8; ++i) {
      held.push_back(Open(port));
      held.back().Send(LittleEndian(uint64_t{8} << 30));
    }
  }
  witness_->ExpectServed();  // so that it has looked at them
  ExpectNoMoreMemoryThan(before);
}

TEST_F(GarbageTest, AFewBytesAndThenSilenceAreClosedInTime) {
  for (const ListeningSocket& port : ports_) {
    std::vector<RawSocket> held;
    for (int length = 1; length < 8; ++length) {
      held.push_back(Open(port));
      held.back().Send(std::string(length, '\x01'));
    }
    const absl::Time began = absl::Now();
    for (RawSocket& socket : held) {
      // The claim is 5 s for data.
      EXPECT_TRUE(
          socket.IsClosedWithin(began + absl::Seconds(30) - absl::Now()))
          << ToString(port);
    }
    std::cout << ToString(port) << (IsControl(port) ? " (control)" : "")
              << ": closed after " << absl::FormatDuration(absl::Now() - began)
              << std::endl;
  }
}

TEST_F(GarbageTest, FiveHundredIdleConnectionsKeepNobodyOut) {
  for (const ListeningSocket& port : ports_) {
    std::vector<RawSocket> idle;
    for (int i = 0; i < 500; ++i) idle.push_back(Open(port));
    const absl::Time began = absl::Now();
    witness_->ExpectServed();
    std::cout << ToString(port) << ": two sessions took "
              << absl::FormatDuration(absl::Now() - began) << std::endl;
    EXPECT_LT(absl::Now() - began, absl::Seconds(20));  // the claim is 1 s each
  }
}

TEST_F(GarbageTest, TenThousandRandomFrames) {
  const auto seed =
      static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed());
  std::cout << "seed " << seed << std::endl;
  std::mt19937 random(seed);
  for (const ListeningSocket& port : ports_) {
    for (int i = 0; i < 1000; ++i) {
      RawSocket socket = Open(port);
      for (int frame = 0; frame < 10; ++frame) {
        const std::string bytes = RandomBytes(random, 300);
        if (random() % 2 == 0) socket.Send(LittleEndian(bytes.size()));
        if (!socket.Send(bytes)) break;  // closed by now
      }
    }
    EXPECT_TRUE(IsAlive(server_->pid())) << ToString(port);
  }
}

// The same from the other side: a peer that dials is as exposed.
TEST_F(GarbageTest, GarbageFromAServerFailsTheCallAndNothingElse) {
  auto client = RemotePeer::Start({"name=client", "control=none"}).value();
  std::mt19937 random(1);
  const std::vector<std::string> answers = {"",
                                            "HTTP/1.1 200 OK\r\n\r\n",
                                            TlsHello(),
                                            LittleEndian(~uint64_t{0}),
                                            std::string(100000, '\0'),
                                            RandomBytes(random, 1 << 16)};
  for (const std::string& answer : answers) {
    RawListener listener;
    auto connected = client->Ask(
        "connect", absl::StrCat("127.0.0.1:", listener.port()), "any", 1000);
    auto socket = listener.Accept(absl::Seconds(10));
    ASSERT_THAT(socket, IsOk());
    socket->Send(answer);
    if (answer.empty()) socket->Reset();
    EXPECT_THAT(connected.status(),
                ::testing::AnyOf(
                    testing::StatusIs(absl::StatusCode::kUnavailable),
                    testing::StatusIs(absl::StatusCode::kDeadlineExceeded)));
  }
  EXPECT_THAT(
      client->Ask("churn", server_->address(), "any", 1, 1 << 20).status(),
      IsOk());
}

}  // namespace
}  // namespace tensorferry
