// Builds that speak different versions of the transfer protocol, each a real
// process: this one speaks 1, the others 1..2 and 2..2.
#include "control/wire_version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "control/control_client.h"
#include "tests/control/test_peers.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSpeaks1To2[] = "tests/control/wire_version_peer_1_to_2";
constexpr char kSpeaks2[] = "tests/control/wire_version_peer_2";

absl::StatusOr<ControlClient::Accepted> Open(const std::string& address,
                                             VersionRange versions) {
  auto client = *ControlClient::Create(address);
  Capabilities caller = PeerWith("alice", {});
  caller.wire_versions = versions;
  return Await<ControlClient::Accepted>(
      [&](Done<ControlClient::Accepted> done) {
        client->OpenSession(Offer(), caller, std::make_shared<HeardEvents>(),
                            kPatience, std::move(done));
      });
}

// What a caller of that build reports of a session with us.
std::string CallFrom(const char* program) {
  FakeHost host(PeerWith("bob", {}));
  TestServer server(&host);
  auto child =
      ChildProcess::Start({"--exec", program, "call", server.address()});
  EXPECT_THAT(child, IsOk());
  auto line = child->ReadLine();
  EXPECT_THAT(line, IsOk());
  EXPECT_EQ(child->Wait(), 0);
  return *line;
}

absl::StatusOr<int> VersionWith(const char* program) {
  auto child = ChildProcess::Start({"--exec", program, "serve"});
  EXPECT_THAT(child, IsOk());
  auto address = child->ReadLine();
  EXPECT_THAT(address, IsOk());
  auto session = Open(*address, kWireVersions);
  child->CloseInput();
  EXPECT_EQ(child->Wait(), 0);
  if (!session.ok()) return session.status();
  return session->plan.wire_version;
}

TEST(WireVersionTest, ThisBuildSpeaksOne) {
  EXPECT_EQ(kWireVersions, (VersionRange{1, 1}));
  EXPECT_EQ(Capabilities().wire_versions, kWireVersions);
}

TEST(WireVersionTest, CalleeThatSpeaksBothAgreesOnOne) {
  EXPECT_THAT(VersionWith(kSpeaks1To2), IsOkAndHolds(1));
}

TEST(WireVersionTest, CallerThatSpeaksBothAgreesOnOne) {
  EXPECT_EQ(CallFrom(kSpeaks1To2), "version 1");
}

TEST(WireVersionTest, CalleeThatSpeaksOnlyTwoRefusesNamingBothRanges) {
  EXPECT_THAT(VersionWith(kSpeaks2),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("caller \"alice\" speaks 1..1"),
                             HasSubstr("callee \"bob\" speaks 2..2"))));
}

TEST(WireVersionTest, CallerThatSpeaksOnlyTwoIsRefusedNamingBothRanges) {
  EXPECT_THAT(CallFrom(kSpeaks2),
              AllOf(HasSubstr("FAILED_PRECONDITION"),
                    HasSubstr("caller \"alice\" speaks 2..2"),
                    HasSubstr("callee \"bob\" speaks 1..1")));
}

TEST(WireVersionTest, TwoThatSpeakBothAgreeOnTwo) {
  auto child = ChildProcess::Start({"--exec", kSpeaks1To2, "serve"});
  ASSERT_THAT(child, IsOk());
  auto address = child->ReadLine();
  ASSERT_THAT(address, IsOk());
  auto session = Open(*address, {1, 2});
  ASSERT_THAT(session, IsOk());
  EXPECT_EQ(session->plan.wire_version, 2);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  // A child process starts as this program; see ChildProcess.
  if (argc > 2 && std::strcmp(argv[1], "--exec") == 0) {
    execv(argv[2], argv + 2);
    return 127;
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
