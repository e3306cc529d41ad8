// Two hosts with a network of their own between them, which is slow, loses
// packets and breaks. Skipped where we may not make one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/reliability/paths.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/wire.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Wire;
using ::testing::HasSubstr;

using absl::StatusCode;

class NetworkTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Wire>> wire = Wire::Create();
    if (!wire.ok()) GTEST_SKIP() << wire.status();
    wire_ = *std::move(wire);
    auto server = Start(0, absl::StrCat("control=", wire_->address(0), ":0"));
    auto client = Start(1, "control=none");
    if (server.status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << server.status();
    }
    ASSERT_THAT(server, IsOk());
    ASSERT_THAT(client, IsOk());
    server_ = *std::move(server);
    client_ = *std::move(client);
  }

  absl::StatusOr<std::unique_ptr<RemotePeer>> Start(
      int host, const std::string& control) {
    return RemotePeer::Start({absl::StrCat("name=host", host), "lease=2",
                              "insecure=1", control,
                              absl::StrCat("network=", wire_->network(host)),
                              absl::StrCat("data=", wire_->address(host))});
  }

  void ExpectTransfersWork(int64_t nbytes) {
    auto session =
        client_->Ask("connect", server_->address(), GetParam(), 30000);
    ASSERT_THAT(session.status(), IsOk());
    const absl::Time began = absl::Now();
    auto sent = client_->Ask("send", session.number(), 2, nbytes, 60000);
    EXPECT_THAT(sent.status(), IsOk());
    EXPECT_THAT(
        client_->Ask("echo", session.number(), 1, nbytes, 60000).status(),
        IsOk());
    std::cout << "four times " << nbytes << " bytes: " << absl::Now() - began
              << std::endl;
    EXPECT_THAT(server_->Ask("stats").text(),
                HasSubstr("received=2 corrupt=0"));
    EXPECT_THAT(client_->Ask("close", session.number(), 10000).status(),
                IsOk());
  }

  std::unique_ptr<Wire> wire_;
  std::unique_ptr<RemotePeer> server_, client_;
};

TEST_P(NetworkTest, CutEndsTheSessionOnBothSides) {
  auto session = client_->Ask("connect", server_->address(), GetParam(), 30000);
  ASSERT_THAT(session.status(), IsOk());
  auto sent = client_->Ask("send", session.number(), 100000, 1 << 20, 60000);
  ASSERT_THAT(client_->Ask("watch", 4 << 20).status(), IsOk());
  const absl::Time cut = absl::Now();
  wire_->Cut();
  EXPECT_THAT(sent.status(),
              ::testing::AnyOf(StatusIs(StatusCode::kUnavailable),
                               StatusIs(StatusCode::kFailedPrecondition)));
  FERRY_ASSERT_OK_AND_ASSIGN(auto ended, server_->NextEvent("ended"));
  EXPECT_THAT(ended.status, StatusIs(StatusCode::kUnavailable));
  std::cout << "told after " << sent.at() - cut << " and " << ended.at - cut
            << ", with a lease of 2 s" << std::endl;
  EXPECT_LT(sent.at() - cut, absl::Seconds(15));
  EXPECT_LT(ended.at - cut, absl::Seconds(15));
  EXPECT_THAT(server_->Ask("stats").text(),
              HasSubstr("corrupt=0 misordered=0"));
}

TEST_P(NetworkTest, DelayOnlyDelays) {
  wire_->SetDelay(absl::Milliseconds(50));
  ExpectTransfersWork(1 << 20);
}

TEST_P(NetworkTest, LossOnlyDelays) {
  wire_->LoseOneOf(50);
  ExpectTransfersWork(1 << 20);
}

INSTANTIATE_TEST_SUITE_P(Paths, NetworkTest,
                         ::testing::Values("tcp/basic", "tls/basic"),
                         testing::PathName);

}  // namespace
}  // namespace tensorferry
