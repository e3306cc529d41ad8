// Those who are between the processes, or want to be: changed handshakes, wrong
// keys, replays, other users. The control plane is honest unless a test says
// otherwise; what it hands out is changed on its way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/reliability/control_proxy.h"
#include "tests/reliability/paths.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/raw_socket.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/tcp_proxy.h"
#include "tests/reliability/witness.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::ControlProxy;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::ListeningSocket;
using ::tensorferry::testing::ListeningSockets;
using ::tensorferry::testing::RawSocket;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::TcpProxy;
using ::tensorferry::testing::Witness;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

using absl::StatusCode;

namespace pb = ::tensorferry::control::v1;

constexpr absl::Duration kAtOnce = absl::Seconds(10);  // the claim is 1 s
// What each side says before the first frame fits into this.
constexpr int kHandshakeBytes = 160;

// A path over TCP and the server's socket that a proxy for it leads to.
class IntruderTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = RemotePeer::Start({"name=server"}).value().release();
    client_ =
        RemotePeer::Start({"name=client", "control=none"}).value().release();
    witness_ = new Witness(*server_);
  }
  static void TearDownTestSuite() {
    delete witness_;
    delete client_;
    delete server_;
  }
  void TearDown() override { witness_->ExpectUnharmed(); }

  // The socket of an address "tcp://127.0.0.1:40411".
  static ListeningSocket SocketOf(absl::string_view address) {
    for (const ListeningSocket& socket : ListeningSockets(server_->pid())) {
      if (absl::EndsWith(address, absl::StrCat("://", ToString(socket)))) {
        return socket;
      }
    }
    ADD_FAILURE() << "the server does not listen on " << address;
    return {};
  }

  // Lets the data of the ticket's one address go through `proxy`, which is made
  // at the first ticket.
  static void Divert(pb::LaneTicket& ticket, TcpProxy::Tamper tamper,
                     std::unique_ptr<TcpProxy>& proxy) {
    const std::string address = ticket.data_addresses(0);
    if (proxy == nullptr) {
      proxy = std::make_unique<TcpProxy>(SocketOf(address), std::move(tamper));
    }
    ticket.clear_data_addresses();
    ticket.add_data_addresses(absl::StrCat(
        address.substr(0, address.find("://")), "://", proxy->address()));
  }

  static RemotePeer::Answer Connect(const std::string& address,
                                    const std::string& path,
                                    int within_ms = 5000) {
    return client_->Ask("connect", address, path, within_ms);
  }

  // Of what the server was given besides honest sessions.
  static void ExpectNothingArrived() {
    EXPECT_THAT(server_->Ask("stats").text(), HasSubstr("received=0"));
  }

  static RemotePeer* server_;
  static RemotePeer* client_;
  static Witness* witness_;
};

RemotePeer* IntruderTest::server_ = nullptr;
RemotePeer* IntruderTest::client_ = nullptr;
Witness* IntruderTest::witness_ = nullptr;

class ManInTheMiddleTest : public IntruderTest,
                           public ::testing::WithParamInterface<std::string> {
 protected:
  // A session through a tampering middle either does not come to be, or works.
  void ExpectRefusedOrRight(const std::string& control,
                            const std::string& what) {
    auto connected = Connect(control, GetParam(), 1000);
    if (!connected.status().ok()) {
      ++refused_;
      return;
    }
    ++opened_;
    const absl::Status echoed =
        client_->Ask("echo", connected.number(), 1, 4096, 5000).status();
    EXPECT_NE(echoed.code(), StatusCode::kInternal) << what;
    client_->Ask("close", connected.number(), 1000).status().IgnoreError();
    EXPECT_THAT(client_->Ask("stats").text(), HasSubstr("corrupt=0")) << what;
  }

  int refused_ = 0, opened_ = 0;
};

// On every connection, so that no second try gets around it. Each byte and each
// bit: tests/transport.
TEST_P(ManInTheMiddleTest, HandshakeCutShort) {
  for (int length = 0; length < kHandshakeBytes;
       length += length < 16 ? 1 : 8) {
    std::unique_ptr<TcpProxy> proxy;
    auto cut = [length](int, uint64_t offset, std::string& bytes) {
      const uint64_t left = length - std::min<uint64_t>(length, offset);
      if (bytes.size() < left) return true;
      bytes.resize(left);
      return false;
    };
    ControlProxy control(server_->address(),
                         {.on_ticket = [&](pb::LaneTicket& ticket) {
                           Divert(ticket, cut, proxy);
                         }});
    ExpectRefusedOrRight(control.address(), absl::StrCat("cut at ", length));
  }
  std::cout << refused_ << " refused, " << opened_ << " opened" << std::endl;
  EXPECT_GT(refused_, 0);
}

TEST_P(ManInTheMiddleTest, HandshakeWithABitFlipped) {
  for (int at = 0; at < kHandshakeBytes; at += 5) {
    std::unique_ptr<TcpProxy> proxy;
    auto flip = [at](int, uint64_t offset, std::string& bytes) {
      const uint64_t position = at;
      if (position >= offset && position < offset + bytes.size()) {
        bytes[position - offset] ^= static_cast<char>(1 << (at % 8));
      }
      return true;
    };
    ControlProxy control(server_->address(),
                         {.on_ticket = [&](pb::LaneTicket& ticket) {
                           Divert(ticket, flip, proxy);
                         }});
    ExpectRefusedOrRight(control.address(), absl::StrCat("byte ", at));
  }
  std::cout << refused_ << " refused, " << opened_ << " opened" << std::endl;
  EXPECT_GT(refused_, 0);
}

TEST_P(ManInTheMiddleTest, ChangedTensorIsNeverTakenForTheRightOne) {
  std::unique_ptr<TcpProxy> proxy;
  auto flip = [](int, uint64_t offset, std::string& bytes) {
    // One bit in the middle of what every lane carries.
    constexpr uint64_t kPosition = 1 << 20;
    if (kPosition >= offset && kPosition < offset + bytes.size()) {
      bytes[kPosition - offset] ^= 0x10;
    }
    return true;
  };
  ControlProxy control(server_->address(),
                       {.on_ticket = [&](pb::LaneTicket& ticket) {
                         Divert(ticket, flip, proxy);
                       }});
  auto connected = Connect(control.address(), GetParam());
  ASSERT_THAT(connected.status(), IsOk());
  const absl::Status echoed =
      client_->Ask("echo", connected.number(), 1, 64 << 20, 5000).status();
  std::cout << echoed << std::endl;
  // Over TLS a changed lane is opened anew, and changed anew.
  EXPECT_THAT(echoed, AnyOf(StatusIs(StatusCode::kDataLoss),
                            StatusIs(StatusCode::kUnavailable),
                            StatusIs(StatusCode::kDeadlineExceeded)));
  client_->Ask("close", connected.number(), 1000).status().IgnoreError();
  for (RemotePeer* peer : {server_, client_}) {
    EXPECT_THAT(peer->Ask("stats").text(), HasSubstr("corrupt=0"));
  }
}

TEST_P(ManInTheMiddleTest, ReplayedConnectionsAreRefused) {
  absl::Mutex mu;
  std::vector<std::string> recorded(64);
  ListeningSocket port;
  std::unique_ptr<TcpProxy> proxy;
  auto record = [&](int connection, uint64_t, std::string& bytes) {
    absl::MutexLock lock(&mu);
    recorded[connection % recorded.size()] += bytes;
    return true;
  };
  ControlProxy control(server_->address(),
                       {.on_ticket = [&](pb::LaneTicket& ticket) {
                         port = SocketOf(ticket.data_addresses(0));
                         Divert(ticket, record, proxy);
                       }});
  auto connected = Connect(control.address(), GetParam());
  ASSERT_THAT(connected.status(), IsOk());
  ASSERT_THAT(
      client_->Ask("echo", connected.number(), 1, 65536, 20000).status(),
      IsOk());
  auto replay = [&] {
    for (int i = 0; i < proxy->connections(); ++i) {
      absl::StatusOr<RawSocket> socket = RawSocket::Connect(port);
      ASSERT_THAT(socket, IsOk());
      {
        absl::MutexLock lock(&mu);
        socket->Send(recorded[i]);
      }
      EXPECT_TRUE(socket->IsClosedWithin(kAtOnce)) << "connection " << i;
    }
  };
  replay();  // while the session is open
  EXPECT_THAT(
      client_->Ask("echo", connected.number(), 1, 65536, 20000).status(),
      IsOk());
  ASSERT_THAT(client_->Ask("close", connected.number(), 20000).status(),
              IsOk());
  replay();  // and afterwards
  ExpectNothingArrived();
}

std::vector<std::string> TcpPaths() {
  std::vector<std::string> paths;
  for (const std::string& path : testing::CpuPaths()) {
    if (!absl::StartsWith(path, "unix")) paths.push_back(path);
  }
  return paths;
}

INSTANTIATE_TEST_SUITE_P(Paths, ManInTheMiddleTest,
                         ::testing::ValuesIn(TcpPaths()), testing::PathName);

class WrongKeyTest : public IntruderTest,
                     public ::testing::WithParamInterface<std::string> {};

TEST_P(WrongKeyTest, IsUnauthenticatedAndMovesNothing) {
  ControlProxy control(server_->address(),
                       {.on_ticket = [](pb::LaneTicket& ticket) {
                         (*ticket.mutable_session_key())[0] ^= 1;
                       }});
  const absl::Time began = absl::Now();
  auto connected = Connect(control.address(), GetParam());
  EXPECT_THAT(connected.status(), StatusIs(StatusCode::kUnauthenticated));
  EXPECT_LT(connected.at() - began, kAtOnce);
  ExpectNothingArrived();
}

TEST_P(WrongKeyTest, TheKeyOfOneSessionDoesNotOpenAnother) {
  std::string victims;
  ControlProxy honest(server_->address(),
                      {.on_ticket = [&](pb::LaneTicket& ticket) {
                        victims = ticket.session_id();
                      }});
  auto victim = Connect(honest.address(), GetParam());
  ASSERT_THAT(victim.status(), IsOk());
  ControlProxy control(server_->address(),
                       {.on_ticket = [&](pb::LaneTicket& ticket) {
                         ticket.set_session_id(victims);
                       }});
  EXPECT_THAT(Connect(control.address(), GetParam()).status(), Not(IsOk()));
  EXPECT_THAT(client_->Ask("echo", victim.number(), 3, 1 << 20, 20000).status(),
              IsOk());
  EXPECT_THAT(client_->Ask("close", victim.number(), 20000).status(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Paths, WrongKeyTest,
                         ::testing::ValuesIn(testing::CpuPaths()),
                         testing::PathName);

TEST_F(IntruderTest, AKeyThatWasNotUsedInTimeIsVoid) {
  const auto callee = pb::Control::NewStub(grpc::CreateChannel(
      server_->address(), grpc::InsecureChannelCredentials()));
  auto is_open = [&](const std::string& id) {
    grpc::ClientContext context;
    pb::ListSessionsResponse sessions;
    callee->ListSessions(&context, {}, &sessions);
    return std::any_of(
        sessions.sessions().begin(), sessions.sessions().end(),
        [&](const auto& session) { return session.session_id() == id; });
  };
  // Holds the ticket back until the callee has given the session up.
  ControlProxy control(
      server_->address(), {.on_ticket = [&](pb::LaneTicket& ticket) {
        const absl::Time began = absl::Now();
        EXPECT_TRUE(Becomes([&] { return !is_open(ticket.session_id()); }));
        std::cout << "void after " << absl::Now() - began << std::endl;
      }});
  EXPECT_THAT(Connect(control.address(), "any", 60000).status(), Not(IsOk()));
  ExpectNothingArrived();
}

TEST_F(IntruderTest, ListensOnLoopbackOnlyAndOnNoMorePortsThanItStartedWith) {
  const size_t before = ListeningSockets(server_->pid()).size();
  std::vector<int64_t> sessions;
  for (const std::string& path : testing::CpuPaths()) {
    auto connected = Connect(server_->address(), path);
    ASSERT_THAT(connected.status(), IsOk());
    sessions.push_back(connected.number());
  }
  const std::vector<ListeningSocket> now = ListeningSockets(server_->pid());
  EXPECT_LE(now.size(), before);
  for (const ListeningSocket& socket : now) {
    EXPECT_THAT(socket.host, AnyOf("127.0.0.1", "::1", "")) << ToString(socket);
  }
  for (int64_t session : sessions) {
    EXPECT_THAT(client_->Ask("close", session, 20000).status(), IsOk());
  }
}

TEST_F(IntruderTest, AnotherUserIsNotLetInThroughAUnixSocket) {
  auto nobody =
      RemotePeer::Start({"name=nobody", "control=none", "user=65534"});
  if (!nobody.ok()) GTEST_SKIP() << nobody.status();
  // He says that he is one of us.
  ControlProxy control(server_->address(), {.on_open = [](pb::Open& open) {
                         open.mutable_caller()->set_user_id(geteuid());
                       }});
  for (const std::string& path : testing::CpuPaths()) {
    if (!absl::StartsWith(path, "unix")) continue;
    auto connected = (*nobody)->Ask("connect", control.address(), path, 5000);
    EXPECT_THAT(connected.status(), Not(IsOk())) << path;
    std::cout << connected.status() << std::endl;
  }
  EXPECT_THAT(
      (*nobody)->Ask("churn", server_->address(), "any", 1, 1 << 20).status(),
      IsOk());  // over TCP
}

}  // namespace
}  // namespace tensorferry
