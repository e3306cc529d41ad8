// Sessions that lose one of their two planes, or a peer between the two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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

using ::tensorferry::testing::ControlProxy;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::ListeningSocket;
using ::tensorferry::testing::ListeningSockets;
using ::tensorferry::testing::RawListener;
using ::tensorferry::testing::RawSocket;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::TcpProxy;
using ::tensorferry::testing::Witness;
using ::testing::AnyOf;

using absl::StatusCode;

namespace pb = ::tensorferry::control::v1;

constexpr absl::Duration kSlack = absl::Seconds(1);  // the claim is 100 ms

// Of a send under way, or of the next one.
auto SaysThatItEnded() {
  return AnyOf(StatusIs(StatusCode::kUnavailable),
               StatusIs(StatusCode::kFailedPrecondition));
}

class InterruptedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = RemotePeer::Start({"name=server", "lease=2"}).value();
    client_ =
        RemotePeer::Start({"name=client", "control=none", "lease=2"}).value();
  }

  ListeningSocket ControlPort() const {
    for (const ListeningSocket& port : ListeningSockets(server_->pid())) {
      if (ToString(port) == server_->address()) return port;
    }
    ADD_FAILURE() << "the server listens nowhere";
    return {};
  }

  // How long a connect took that must fail.
  absl::Duration ExpectNoSession(const std::string& address, int within_ms) {
    const absl::Time began = absl::Now();
    auto connected = client_->Ask("connect", address, "any", within_ms);
    EXPECT_THAT(connected.status(),
                AnyOf(StatusIs(StatusCode::kUnavailable),
                      StatusIs(StatusCode::kDeadlineExceeded)));
    const absl::Duration took = connected.at() - began;
    std::cout << "connect took " << took << ": " << connected.status()
              << std::endl;
    return took;
  }

  std::unique_ptr<RemotePeer> server_, client_;
};

using ControlPlaneTest = InterruptedTest;

TEST_F(ControlPlaneTest, ResettingItEndsTheSessionOnBothSides) {
  Witness witness(*server_);
  TcpProxy proxy(ControlPort());
  auto session = client_->Ask("connect", proxy.address(), "any", 30000);
  ASSERT_THAT(session.status(), IsOk());
  auto sent = client_->Ask("send", session.number(), 100000, 1 << 20, 30000);
  ASSERT_THAT(client_->Ask("watch", 8 << 20).status(), IsOk());
  const absl::Time reset = absl::Now();
  proxy.Refuse();
  EXPECT_THAT(sent.status(), SaysThatItEnded());
  std::cout << "told after " << sent.at() - reset << std::endl;
  EXPECT_LT(sent.at() - reset, absl::Seconds(15));
  FERRY_ASSERT_OK_AND_ASSIGN(auto ended, client_->NextEvent("ended"));
  EXPECT_THAT(ended.status, StatusIs(StatusCode::kUnavailable));
  witness.ExpectUnharmed();
}

TEST_F(ControlPlaneTest, ItsSilenceEndsTheSessionOnBothSides) {
  Witness witness(*server_);
  auto proxy = std::make_unique<TcpProxy>(ControlPort());
  auto session = client_->Ask("connect", proxy->address(), "any", 30000);
  ASSERT_THAT(session.status(), IsOk());
  auto sent = client_->Ask("send", session.number(), 100000, 1 << 20, 30000);
  ASSERT_THAT(client_->Ask("watch", 8 << 20).status(), IsOk());
  const absl::Time frozen = absl::Now();
  proxy->Freeze();
  EXPECT_THAT(sent.status(), SaysThatItEnded());
  std::cout << "told after " << sent.at() - frozen << ", with a lease of 2 s"
            << std::endl;
  EXPECT_LT(sent.at() - frozen, absl::Seconds(15));
  proxy.reset();
  witness.ExpectUnharmed();
}

TEST_F(InterruptedTest, KilledCalleeBetweenTheTicketAndTheLanes) {
  ControlProxy proxy(server_->address(),
                     {.on_ticket = [&](pb::LaneTicket&) { server_->Kill(); }});
  EXPECT_LT(ExpectNoSession(proxy.address(), 20000), absl::Seconds(5) + kSlack);
}

TEST_F(InterruptedTest, KilledCallerBetweenTheTicketAndTheLanes) {
  Witness witness(*server_);
  const pid_t victim = client_->pid();
  {
    ControlProxy proxy(server_->address(), {.on_ticket = [&](pb::LaneTicket&) {
                         client_->Kill();
                       }});
    client_->Ask("connect", proxy.address(), "any", 20000);
    ASSERT_TRUE(testing::Becomes([&] { return !testing::IsAlive(victim); }));
  }
  witness.ExpectUnharmed();
}

TEST_F(InterruptedTest, StoppedPeerIsNotWaitedForBeyondTheTimeout) {
  server_->Stop();
  EXPECT_LT(ExpectNoSession(server_->address(), 1000),
            absl::Seconds(1) + kSlack);
}

TEST_F(InterruptedTest, FullBacklogIsNotWaitedForBeyondTheTimeout) {
  RawListener listener(/*backlog=*/0);
  std::vector<RawSocket> filling;  // the second one waits already
  while (true) {
    auto next = RawSocket::Connect(
        {.host = "127.0.0.1", .port = static_cast<uint16_t>(listener.port())},
        absl::Milliseconds(500));
    if (!next.ok()) break;
    filling.push_back(*std::move(next));
  }
  const std::string address = absl::StrCat("127.0.0.1:", listener.port());
  EXPECT_LT(ExpectNoSession(address, 1000), absl::Seconds(1) + kSlack);

  // The same for data.
  ControlProxy proxy(
      server_->address(), {.on_ticket = [&](pb::LaneTicket& ticket) {
        ticket.clear_data_addresses();
        ticket.add_data_addresses(absl::StrCat("tcp://", address));
      }});
  EXPECT_LT(ExpectNoSession(proxy.address(), 2000), absl::Seconds(2) + kSlack);
}

TEST_F(InterruptedTest, DataPortThatTakesButDoesNotAnswer) {
  RawListener listener;
  ControlProxy proxy(server_->address(),
                     {.on_ticket = [&](pb::LaneTicket& ticket) {
                       ticket.clear_data_addresses();
                       ticket.add_data_addresses(
                           absl::StrCat("tcp://127.0.0.1:", listener.port()));
                     }});
  EXPECT_LT(ExpectNoSession(proxy.address(), 2000), absl::Seconds(2) + kSlack);
}

}  // namespace
}  // namespace tensorferry
