// Connections of a hub as tensorpipe uses them, without tensorpipe.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "tests/testing/status_matchers.h"
#include "tests/transport/connection_fixture.h"
#include "tests/transport/pipe_fixture.h"
#include "tests/transport/raw_peer.h"
#include "tests/transport/system_calls.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/handshake.h"
#include "transport/hub.h"
#include "transport/sockets.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::StatusIs;

class ConnectionTest : public ConnectionFixture,
                       public ::testing::WithParamInterface<Wire> {
 protected:
  void Open() { ConnectionFixture::Open(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Wires, ConnectionTest,
                         ::testing::Values(Wire::kUnix, Wire::kTcp, Wire::kTls),
                         [](const auto& info) {
                           return std::string(ToString(info.param));
                         });

TEST_P(ConnectionTest, KeepsTheOrderOfCallsFromSeveralThreads) {
  Open();
  constexpr int kNumbers = 2000;
  static int numbers[kNumbers];
  std::vector<int> got(kNumbers);
  std::atomic<int> read{0};
  std::promise<void> all;
  for (int i = 0; i < kNumbers; ++i) {
    accepted_->read(
        &got[i], sizeof(int),
        [&, i](const tensorpipe::Error& error, const void*, size_t) {
          EXPECT_FALSE(error);
          EXPECT_EQ(read++, i);
          if (i == kNumbers - 1) all.set_value();
        });
  }
  for (int i = 0; i < kNumbers; ++i) {
    numbers[i] = i;
    const auto write = [&, i] {
      dialed_->write(&numbers[i], sizeof(int), [](const tensorpipe::Error&) {});
    };
    if (i % 3 != 0) {
      write();
      continue;
    }
    std::promise<void> written;
    loop_->Post([&] {
      write();
      written.set_value();
    });
    written.get_future().wait();
  }
  all.get_future().wait();
  for (int i = 0; i < kNumbers; ++i) EXPECT_EQ(got[i], i);
}

TEST_P(ConnectionTest, WritesNowhereButToTheBuffer) {
  Open();
  for (const size_t sent : {0, 3, 5, 100}) {
    ConnectionPtr dialed, accepted;
    Connect(dialed, accepted);
    std::string memory(200, 'g');
    auto done = Read(accepted, &memory[50], 4);
    const std::string bytes(sent, 'x');
    dialed->write(bytes.data(), bytes.size(), [](const tensorpipe::Error&) {});
    EXPECT_THAT(done.get(), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_EQ(memory.substr(0, 50), std::string(50, 'g'));
    EXPECT_EQ(memory.substr(54), std::string(146, 'g'));
    accepted->close();
    dialed->close();
    loop_->Post([dialed, accepted] {});
  }
  EXPECT_EQ(hub_->counters().broken_frames, 4u);
}

TEST_P(ConnectionTest, CloseCallsBackEachOperationOnce) {
  Open();
  constexpr int kOperations = 1000;
  const std::string big(1 << 20, 'b');
  std::vector<std::atomic<int>> calls(2 * kOperations);
  std::vector<char> buffer(kOperations);
  for (int i = 0; i < kOperations; ++i) {
    accepted_->read(
        &buffer[i], 1,
        [&, i](const tensorpipe::Error& error, const void*, size_t) {
          EXPECT_TRUE(error);
          ++calls[i];
        });
    accepted_->write(big.data(), big.size(), [&, i](const tensorpipe::Error&) {
      ++calls[kOperations + i];
    });
  }
  accepted_->close();
  accepting_->join();
  for (auto& count : calls) EXPECT_EQ(count, 1);
  EXPECT_FALSE(Read(accepted_, buffer.data(), 1).get().ok());
  EXPECT_FALSE(Read(dialed_, buffer.data(), 1).get().ok());
}

TEST_P(ConnectionTest, MayBeDestroyedInItsCallback) {
  Open();
  std::promise<void> called;
  static char byte;
  accepted_->read(&byte, 1, [&](const tensorpipe::Error&, const void*, size_t) {
    accepted_ = nullptr;
    called.set_value();
  });
  dialed_->write("x", 1, [](const tensorpipe::Error&) {});
  called.get_future().wait();
  EXPECT_FALSE(Read(dialed_, &byte, 1).get().ok());
}

// As channels do that all sessions share, on threads of their own.
TEST_P(ConnectionTest, MayBeLetGoOfWhenItsLoopIsGone) {
  Open();
  dialing_->join();
  accepting_->join();
  listener_ = nullptr;
  dialing_ = accepting_ = nullptr;
  hub_ = nullptr;
  loop_ = nullptr;
  dialed_->close();
  dialed_ = nullptr;
  accepted_ = nullptr;
}

TEST_P(ConnectionTest, ThePeersEndIsUnavailable) {
  Open();
  dialed_->close();
  char byte;
  EXPECT_THAT(Read(accepted_, &byte, 1).get(),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_P(ConnectionTest, WhatCameBeforeThePeersEndIsStillRead) {
  Open();
  static const char bytes[] = "abcdefgh";
  constexpr int kBytes = 8;
  std::promise<void> sent;
  // In one turn, so that the last of them go together: over TLS in one record.
  loop_->Post([&] {
    for (int i = 0; i < kBytes; ++i) {
      dialed_->write(&bytes[i], 1, [&, i](const tensorpipe::Error& error) {
        EXPECT_FALSE(error);
        if (i == kBytes - 1) sent.set_value();
      });
    }
  });
  sent.get_future().wait();
  for (int i = 0; i < kBytes; ++i) {
    char byte = 0;
    EXPECT_THAT(Read(accepted_, &byte, 1).get(), IsOk()) << i;
    EXPECT_EQ(byte, bytes[i]);
    if (i == kBytes - 4) dialed_->close();
    Turn(*loop_);
  }
}

TEST_P(ConnectionTest, EndsOnceWhatCameBeforeThePeersEndIsRead) {
  Start({.max_connections_per_session = 1});
  Open();
  std::promise<void> sent;
  dialed_->write("x", 1, [&](const tensorpipe::Error&) { sent.set_value(); });
  sent.get_future().wait();
  dialed_->close();
  Turn(*loop_);
  EXPECT_FALSE(ConnectsAgain());
  char byte;
  EXPECT_THAT(Read(accepted_, &byte, 1).get(), IsOk());
  // Nobody reads any more, and yet its place is free.
  Turn(*loop_);
  EXPECT_TRUE(ConnectsAgain());
}

TEST_P(ConnectionTest, ASocketThatCannotBeWatchedEndsItsConnectionOnly) {
  Open();
  const auto outcome_with = [&](int good_watches) {
    FailWatch(good_watches, ENOSPC);
    std::promise<ConnectionPtr> connected;
    loop_->Post([&] {  // at once, so that the hello goes ahead
      auto connection = dialing_->connect("anything");
      connection->write(hello_, [](const tensorpipe::Error&) {});
      connected.set_value(std::move(connection));
    });
    ConnectionPtr connection = connected.get_future().get();
    char byte;
    return Read(connection, &byte, 1).get();
  };
  const auto no_room = StatusIs(absl::StatusCode::kResourceExhausted,
                                ::testing::HasSubstr("No space left"));
  // In this order: who dials, who is dialed (which the other one tries again),
  // the connection of the latter and that of the former.
  EXPECT_THAT(outcome_with(0), no_room);
  Turn(*loop_);  // the hub has accepted that one
  FailWatch(1, ENOSPC);
  EXPECT_TRUE(ConnectsAgain());
  Turn(*loop_);  // the hub watches that one too
  EXPECT_THAT(outcome_with(2), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(outcome_with(3), no_room);
  EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
}

TEST_P(ConnectionTest, AListeningSocketThatCannotBeWatchedIsTriedAgain) {
  FailWatch(0, ENOSPC);
  Open();
}

TEST_P(ConnectionTest, WhatACallbackThrowsReachesItsSessionOnly) {
  Open();
  static char byte;
  accepted_->read(&byte, 1, [](const tensorpipe::Error&, const void*, size_t) {
    throw std::runtime_error("thrown in a callback");
  });
  dialed_->write("x", 1, [](const tensorpipe::Error&) {});
  EXPECT_THAT(wedged_.get_future().get(),
              StatusIs(absl::StatusCode::kInternal,
                       ::testing::HasSubstr("thrown in a callback")));
  EXPECT_EQ(hub_->counters().tensorpipe_threw, 1u);
  EXPECT_THAT(TryHonestSession(*hub_, GetParam()), IsOk());
}

TEST_P(ConnectionTest, TellsTheProcessBehindAUnixSocket) {
  Open();
  const auto peer = PeerProcessOf(*accepted_);
  EXPECT_EQ(peer.has_value(), GetParam() == Wire::kUnix);
  if (!peer.has_value()) return;
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, geteuid());
}

TEST_P(ConnectionTest, AKeyThatIsNotUsedInTimeIsVoid) {
  FakeClock clock;
  auto loop = *PollLoop::Create(&clock);
  auto hub = *Hub::Create({.loop = loop.get()});
  auto expected =
      hub->Expect(key_, {GetParam()}, clock.Now() + absl::Seconds(10), {});
  ASSERT_THAT(expected, IsOk());
  auto listener = expected->context->listen(expected->listen);
  std::promise<absl::Status> over;
  listener->accept([&](const tensorpipe::Error& error, ConnectionPtr) {
    over.set_value(HubErrorStatus(error.what()));
  });
  EXPECT_THAT(hub->Expect(key_, {GetParam()}, absl::InfiniteFuture(), {}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  clock.Advance(absl::Seconds(10));
  EXPECT_THAT(over.get_future().get(),
              StatusIs(absl::StatusCode::kUnavailable));
  auto dialing = *hub->Dial(key_, expected->addresses[0], {});
  auto late = dialing->connect("");
  char byte;
  EXPECT_THAT(Read(late, &byte, 1).get(),
              StatusIs(absl::StatusCode::kUnauthenticated));
  dialing->join();
  expected->context->join();
}

TEST_P(ConnectionTest, ADialEndsWhenItsTimeIsOver) {
  FakeClock clock;
  auto loop = *PollLoop::Create(&clock);
  auto hub = *Hub::Create({.loop = loop.get()});
  RawListener silent(GetParam());
  auto dialing = *hub->Dial(key_, silent.address(), {});
  auto connection = dialing->connect("");
  char byte;
  auto done = Read(connection, &byte, 1);
  RawSocket accepted = silent.Accept();
  EXPECT_GT(accepted.Read(8).size(), 0u);
  clock.Advance(absl::Seconds(5));
  EXPECT_THAT(done.get(), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(accepted.WaitUntilClosed());
  dialing->join();
}

TEST(HubOptionsTest, PlainTcpStaysOnThisHostUnlessAllowed) {
  auto loop = *PollLoop::Create();
  auto hub = *Hub::Create(
      {.loop = loop.get(), .host = "0.0.0.0", .advertise = "192.0.2.1"});
  EXPECT_THAT(
      hub->Expect(RandomSession(), {Wire::kTcp}, absl::InfiniteFuture(), {}),
      StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(hub->Dial(RandomSession(), "tcp://192.0.2.1:80", {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  auto expected = hub->Expect(RandomSession(), {Wire::kTls, Wire::kTcp},
                              absl::InfiniteFuture(), {});
  ASSERT_THAT(expected, IsOk());
  ASSERT_EQ(expected->addresses.size(), 1u);
  EXPECT_THAT(expected->addresses[0],
              ::testing::StartsWith("tls://192.0.2.1:"));
  expected->context->join();
  EXPECT_THAT(Hub::Create({.loop = loop.get(), .host = "0.0.0.0"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Hub::Create({.loop = loop.get(), .host = "localhost"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(HubOptionsTest, WorksOverIpv6) {
  auto loop = *PollLoop::Create();
  auto hub = *Hub::Create({.loop = loop.get(), .host = "::1"});
  auto probe =
      hub->Expect(RandomSession(), {Wire::kTcp}, absl::InfiniteFuture(), {});
  if (!probe.ok()) GTEST_SKIP() << "no ::1 here: " << probe.status();
  probe->context->join();
  EXPECT_THAT(TryHonestSession(*hub, Wire::kTcp), IsOk());
  EXPECT_THAT(TryHonestSession(*hub, Wire::kTls), IsOk());
}

constexpr int kNotHere = 77;  // the system does not let us

// Runs `body` in a child, where it may fail expectations, and returns what it
// did: 0 or kNotHere.
template <class F>
int InChild(F body) {
  const pid_t child = fork();
  if (child == 0) {
    const int outcome = body();
    _exit(::testing::Test::HasFailure() ? 1 : outcome);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_THAT(WEXITSTATUS(status), ::testing::AnyOf(0, kNotHere));
  return WEXITSTATUS(status);
}

TEST(HubSystemTest, AnotherUserIsTurnedAway) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  auto loop = *PollLoop::Create();
  auto hub = *Hub::Create({.loop = loop.get()});
  const SessionKey key = RandomSession();
  auto expected = *hub->Expect(key, {Wire::kUnix}, absl::InfiniteFuture(), {});
  InChild([&] {
    if (setuid(65534) != 0) return 2;
    return RawDial(expected.addresses[0], key, 1).has_value() ? 1 : 0;
  });
  EXPECT_EQ(hub->counters().refused, 1u);
  EXPECT_THAT(TryHonestSession(*hub, Wire::kUnix), IsOk());
  expected.context->join();
}

TEST(HubSystemTest, AConnectionThatIsResetEndsThoughNobodyReads) {
  auto loop = *PollLoop::Create();
  auto hub =
      *Hub::Create({.loop = loop.get(), .max_connections_per_session = 1});
  const SessionKey key = RandomSession();
  auto expected = *hub->Expect(key, {Wire::kTcp}, absl::InfiniteFuture(), {});
  auto listener = expected.context->listen(expected.listen);
  std::promise<ConnectionPtr> came;
  listener->accept([&](const tensorpipe::Error&, ConnectionPtr connection) {
    came.set_value(std::move(connection));
  });
  auto peer = RawDial(expected.addresses[0], key, 1);
  ASSERT_TRUE(peer.has_value());
  peer->Send(RawFrame(FrameKind::kPacket, SpontaneousHello()));
  ConnectionPtr accepted = came.get_future().get();
  Hello hello;
  std::promise<void> read;
  accepted->read(hello, [&](const tensorpipe::Error&) { read.set_value(); });
  read.get_future().wait();
  EXPECT_FALSE(RawDial(expected.addresses[0], key, 2).has_value());
  peer->Reset();
  const absl::Time until = absl::Now() + kPatience;
  uint64_t number = 3;
  while (!RawDial(expected.addresses[0], key, number++).has_value()) {
    ASSERT_LT(absl::Now(), until) << "the connection holds its place";
  }
  expected.context->join();
}

// Whether a connection that ended at `port` keeps others from binding to it.
bool IsInTimeWait(uint16_t port) {
  std::ifstream connections("/proc/net/tcp");
  const std::string here = absl::StrFormat(":%04X", port);
  const std::string kTimeWait = "06";
  std::string line, number, local, remote, state;
  while (std::getline(connections, line)) {
    std::istringstream(line) >> number >> local >> remote >> state;
    if (absl::EndsWith(local, here) && state == kTimeWait) return true;
  }
  return false;
}

// Linux hands the options of a listening socket on to what it accepts.
TEST(HubSystemTest, BothEndsOfAConnectionNoticeThatTheOtherIsGone) {
  DataAddress address{.wire = Wire::kTcp, .host = "127.0.0.1"};
  const UniqueFd listening = *ListenInRange(address, 0, 0);
  RawSocket dialed = RawConnect(ToString(address));
  const UniqueFd accepted(accept(listening.get(), nullptr, nullptr));
  const UniqueFd opened = *OpenSocket(address);
  for (const auto& [level, option] : {std::pair(SOL_SOCKET, SO_KEEPALIVE),
                                      {IPPROTO_TCP, TCP_KEEPIDLE},
                                      {IPPROTO_TCP, TCP_KEEPINTVL},
                                      {IPPROTO_TCP, TCP_KEEPCNT},
                                      {IPPROTO_TCP, TCP_USER_TIMEOUT},
                                      {IPPROTO_TCP, TCP_NODELAY}}) {
    int theirs = 0, ours = 0;
    socklen_t size = sizeof(int);
    ASSERT_EQ(getsockopt(accepted.get(), level, option, &theirs, &size), 0);
    ASSERT_EQ(getsockopt(opened.get(), level, option, &ours, &size), 0);
    EXPECT_EQ(theirs, ours) << option;
    EXPECT_GT(theirs, 0) << option;
  }
}

TEST(HubSystemTest, ANewHubTakesThePortOfOneThatHasJustGone) {
  auto loop = *PollLoop::Create();
  HubOptions options{.loop = loop.get()};
  auto hub = *Hub::Create(options);
  const SessionKey key = RandomSession();
  auto expected = *hub->Expect(key, {Wire::kTcp}, absl::InfiniteFuture(), {});
  const std::string address = expected.addresses[0];
  {
    // The hub closes first, with nothing unread: its end has to wait.
    RawSocket stranger = RawConnect(address);
    ClientHandshake hello(RandomSession(), Wire::kTcp, 1, *RandomNonce());
    stranger.Send(OutputOf(hello));
    EXPECT_TRUE(stranger.WaitUntilClosed());
  }
  expected.context->join();
  hub = nullptr;
  const uint16_t port = ParseDataAddress(address)->port;
  const absl::Time until = absl::Now() + kPatience;
  while (!IsInTimeWait(port)) ASSERT_LT(absl::Now(), until);
  options.lowest_port = options.highest_port = port;
  hub = *Hub::Create(options);
  auto again = hub->Expect(key, {Wire::kTcp}, absl::InfiniteFuture(), {});
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->addresses[0], address);
  again->context->join();
}

// A network of this process alone, where 192.0.2.x is this host. False, with
// errno: the system does not let us.
bool EnterOwnNetwork() {
  if (unshare(CLONE_NEWNET) != 0 &&
      unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    return false;
  }
  UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq device{};
  std::strcpy(device.ifr_name, "lo");
  device.ifr_flags = IFF_UP;
  if (ioctl(any.get(), SIOCSIFFLAGS, &device) != 0) return false;
  std::strcpy(device.ifr_name, "lo:1");
  auto& address = reinterpret_cast<sockaddr_in&>(device.ifr_addr);
  address = {.sin_family = AF_INET, .sin_port = 0};
  inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);
  return ioctl(any.get(), SIOCSIFADDR, &device) == 0;
}

RawSocket ConnectFrom(const char* host, const std::string& address) {
  const SocketAddress from =
      ToSocketAddress({.wire = Wire::kTcp, .host = host});
  const SocketAddress to = ToSocketAddress(*ParseDataAddress(address));
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(fd.get(), from.get(), from.length), 0);
  EXPECT_EQ(connect(fd.get(), to.get(), to.length), 0);
  return RawSocket(std::move(fd));
}

TEST(HubSystemTest, AHostWithTooManyHandshakesLosesItsOwnOldest) {
  const int outcome = InChild([] {
    if (!EnterOwnNetwork()) return kNotHere;
    FakeClock clock;
    auto loop = *PollLoop::Create(&clock);
    auto hub = *Hub::Create({.loop = loop.get(),
                             .host = "192.0.2.1",
                             .plaintext_from_hosts = true,
                             .max_handshakes_per_address = 4});
    auto expected =
        *hub->Expect(RandomSession(), {Wire::kTcp}, absl::InfiniteFuture(), {});
    const auto admit = [&](const char* host) {
      RawSocket socket = ConnectFrom(host, expected.addresses[0]);
      Turn(*loop);
      // For so long it is no reason to go that nothing is said.
      clock.Advance(absl::Milliseconds(20));
      return socket;
    };
    RawSocket other = admit("192.0.2.3");
    std::deque<RawSocket> many;
    for (int i = 0; i < 4; ++i) many.push_back(admit("192.0.2.2"));
    EXPECT_EQ(hub->counters().refused, 0u);
    for (uint64_t gone = 1; gone <= 3; ++gone) {
      many.push_back(admit("192.0.2.2"));
      EXPECT_TRUE(many.front().WaitUntilClosed());
      many.pop_front();
      for (RawSocket& socket : many) EXPECT_TRUE(socket.IsQuiet());
      EXPECT_EQ(hub->counters().refused, gone);
    }
    EXPECT_TRUE(other.IsQuiet());
    expected.context->join();
    hub = nullptr;
    return 0;
  });
  if (outcome == kNotHere) GTEST_SKIP() << "needs a network of its own";
}

TEST(HubSystemTest, AcceptingRestsWhileNoDescriptorIsLeft) {
  InChild([] {
    FakeClock clock;
    auto loop = *PollLoop::Create(&clock);
    auto hub = *Hub::Create({.loop = loop.get()});
    auto expected =
        *hub->Expect(RandomSession(), {Wire::kTcp}, absl::InfiniteFuture(), {});
    Turn(*loop);
    std::promise<void> go;
    loop->Post([&] { go.get_future().wait(); });
    std::vector<RawSocket> waiting;
    for (int i = 0; i < 8; ++i) {
      waiting.push_back(RawConnect(expected.addresses[0]));
    }
    const int next = dup(0);
    close(next);
    rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    rlimit none = before;
    none.rlim_cur = static_cast<rlim_t>(next);
    setrlimit(RLIMIT_NOFILE, &none);
    go.set_value();
    // All hear that they are not served.
    for (RawSocket& socket : waiting) EXPECT_TRUE(socket.WaitUntilClosed());
    Turn(*loop);
    const int accepts = AcceptCalls();
    Turn(*loop);
    EXPECT_EQ(AcceptCalls(), accepts);
    clock.Advance(absl::Milliseconds(100));
    Turn(*loop);
    EXPECT_GT(AcceptCalls(), accepts);
    EXPECT_LE(AcceptCalls(), accepts + 2);  // for itself, and with the spare
    setrlimit(RLIMIT_NOFILE, &before);
    clock.Advance(absl::Milliseconds(100));
    EXPECT_THAT(TryHonestSession(*hub, Wire::kTcp), IsOk());
    expected.context->join();
    hub = nullptr;
    return 0;
  });
}

// By another thread (transport/close_elsewhere.h), which a child has not.
TEST(HubSystemTest, AChildOfAForkClosesWhatIsNotReadToo) {
  const auto refuse_a_stranger = [] {
    auto loop = *PollLoop::Create();
    auto hub = *Hub::Create({.loop = loop.get()});
    auto expected = *hub->Expect(RandomSession(), {Wire::kUnix},
                                 absl::InfiniteFuture(), {});
    RawSocket stranger = RawConnect(expected.addresses[0]);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return 2;
    const UniqueFd open(ends[0]);
    {
      const UniqueFd sent(ends[1]);
      stranger.Send(std::string(1000, 'X'));
      stranger.SendWith({sent.get()}, "X");
    }
    EXPECT_TRUE(stranger.WaitUntilClosed());
    // Ends once nobody has the other end any more.
    pollfd end{.fd = open.get(), .events = POLLIN};
    EXPECT_EQ(poll(&end, 1, 30'000), 1);
    EXPECT_NE(end.revents & POLLHUP, 0);
    expected.context->join();
    return 0;
  };
  refuse_a_stranger();
  InChild(refuse_a_stranger);
}

TEST(HubSystemTest, LivesWithoutDescriptors) {
  InChild([] {
    auto loop = *PollLoop::Create();
    auto hub = *Hub::Create({.loop = loop.get()});
    const SessionKey key = RandomSession();
    auto expected = *hub->Expect(key, {Wire::kUnix, Wire::kTcp},
                                 absl::InfiniteFuture(), {});
    rlimit limit{.rlim_cur = 64, .rlim_max = 64};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return 2;
    {
      std::vector<RawSocket> sockets;
      // Their other ends are the hub's: it runs out first, or we do.
      for (int i = 0; i < 26; ++i) {
        sockets.push_back(RawConnect(expected.addresses[i % 2]));
      }
      auto dialing = *hub->Dial(key, expected.addresses[0], {});
      for (int i = 0; i < 40; ++i) {
        auto connection = dialing->connect("");
        connection->close();
      }
      dialing->join();
    }
    const bool works = TryHonestSession(*hub, Wire::kUnix).ok() &&
                       TryHonestSession(*hub, Wire::kTcp).ok();
    return works ? 0 : 1;
  });
}

}  // namespace
}  // namespace tensorferry
