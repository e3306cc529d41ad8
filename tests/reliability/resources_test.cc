// Processes that lack something: descriptors, memory, system calls, ports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/reliability/paths.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/witness.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsAlive;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::RemotePeer;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Witness;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

using absl::StatusCode;

// UNAVAILABLE from a program that could not confine itself.
#define START_OR_SKIP(lhs, ...)                                   \
  auto lhs##_or = RemotePeer::Start(__VA_ARGS__);                 \
  if (lhs##_or.status().code() == absl::StatusCode::kUnavailable) \
    GTEST_SKIP() << lhs##_or.status();                            \
  ASSERT_THAT(lhs##_or, IsOk());                                  \
  auto lhs = *std::move(lhs##_or)

constexpr int kCallers = 64;
constexpr int kProcesses = 4;

class DescriptorTest : public ::testing::TestWithParam<int> {};

TEST_P(DescriptorTest, EachOf64CallersIsServedOrToldThatNoneAreLeft) {
  auto started = RemotePeer::Start(
      {"name=server", absl::StrCat("descriptors=", GetParam())});
  if (!started.ok()) {
    // Too few to begin with: said, and not an abort.
    EXPECT_THAT(started, StatusIs(StatusCode::kResourceExhausted));
    return;
  }
  std::unique_ptr<RemotePeer> server = *std::move(started);
  std::vector<std::unique_ptr<RemotePeer>> clients;
  std::vector<std::pair<RemotePeer*, RemotePeer::Answer>> connects;
  for (int i = 0; i < kProcesses; ++i) {
    auto client = RemotePeer::Start({"name=client", "control=none"});
    ASSERT_THAT(client, IsOk());
    clients.push_back(*std::move(client));
  }
  for (int i = 0; i < kCallers; ++i) {
    RemotePeer* client = clients[i % kProcesses].get();
    connects.emplace_back(
        client, client->Ask("connect", server->address(), "any 20000"));
  }
  std::map<StatusCode, int> outcomes;
  for (auto& [client, connected] : connects) {
    absl::Status status = connected.status();
    if (status.ok()) {
      status =
          client->Ask("echo", connected.number(), "1 65536 20000").status();
    }
    if (outcomes[status.code()]++ == 0) std::cout << status << std::endl;
  }
  for (const auto& [code, count] : outcomes) {
    std::cout << count << " " << absl::StatusCodeToString(code) << std::endl;
    EXPECT_THAT(code, AnyOf(StatusCode::kOk, StatusCode::kResourceExhausted));
  }
  // With less the control connections of the four may leave none for a session.
  if (GetParam() >= 40) {
    EXPECT_GT(outcomes[StatusCode::kOk], 0);
  }
  ASSERT_TRUE(IsAlive(server->pid()));
  for (auto& client : clients) client->Kill();
  // Everything is there again.
  auto later = RemotePeer::Start({"name=later", "control=none"});
  ASSERT_THAT(later, IsOk());
  EXPECT_TRUE(testing::Becomes([&] {
    return (*later)
        ->Ask("churn", server->address(), "any", 1, 65536)
        .status()
        .ok();
  }));
}

INSTANTIATE_TEST_SUITE_P(Limits, DescriptorTest,
                         ::testing::Values(32, 40, 64, 256));

TEST(ResourcesTest, AMessageBeyondTheAddressSpaceIsRefusedAndTheNextOneIsNot) {
  START_OR_SKIP(server,
                {"name=server", absl::StrCat("address_space=", 700 << 20)});
  auto client = RemotePeer::Start({"control=none"}).value();
  auto session = client->Ask("connect", server->address(), "any", 30000);
  ASSERT_THAT(session.status(), IsOk());
  EXPECT_THAT(client->Ask("send", session.number(), 1, 1 << 30, 30000).status(),
              StatusIs(StatusCode::kResourceExhausted));
  EXPECT_THAT(client->Ask("echo", session.number(), 1, 1 << 20, 30000).status(),
              IsOk());
}

TEST(ResourcesTest, TransfersDoNotNeedMemfds) {
  START_OR_SKIP(server, {"denied=memfd_create"});
  START_OR_SKIP(client, {"control=none", "denied=memfd_create"});
  for (const std::string& path : testing::CpuPaths()) {
    EXPECT_THAT(
        client->Ask("churn", server->address(), path, 2, 1 << 20).status(),
        IsOk())
        << path;
  }
}

class NoReadingTest
    : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(NoReadingTest, TransfersTakeAnotherWay) {
  const auto [of_server, of_client] = GetParam();
  START_OR_SKIP(server, {"user=65534", of_server, "pool_bytes=0"});
  START_OR_SKIP(client,
                {"user=65534", "control=none", of_client, "pool_bytes=0"});
  auto session = client->Ask("connect", server->address(), "any", 30000);
  ASSERT_THAT(session.status(), IsOk());
  // Either way, so that each side has to read.
  EXPECT_THAT(
      client->Ask("echo", session.number(), 3, 16 << 20, 30000).status(),
      IsOk());
  auto sent = client->Ask("send", session.number(), 1, 16 << 20, 30000);
  EXPECT_THAT(sent.status(), IsOk());
  std::cout << "paths: " << sent.text() << std::endl;
}

INSTANTIATE_TEST_SUITE_P(
    Sides, NoReadingTest,
    ::testing::Values(std::pair("denied=process_vm_readv", "x=y"),
                      std::pair("x=y", "denied=process_vm_readv"),
                      std::pair("undumpable=1", "x=y"),
                      std::pair("x=y", "undumpable=1")));

TEST(ResourcesTest, AFullSharedMemoryFolderIsNotNeeded) {
  START_OR_SKIP(server, {"full_shm=1"});
  START_OR_SKIP(client, {"control=none", "full_shm=1"});
  EXPECT_THAT(
      client->Ask("churn", server->address(), "any", 2, 16 << 20).status(),
      IsOk());
}

TEST(ResourcesTest, APortInUseIsSaidAndItsOwnerGoesOn) {
  auto owner = RemotePeer::Start({"name=owner"}).value();
  Witness witness(*owner);
  EXPECT_THAT(RemotePeer::Start({absl::StrCat("control=", owner->address())}),
              StatusIs(StatusCode::kUnavailable, HasSubstr(owner->address())));
  witness.ExpectUnharmed();
}

TEST(ResourcesTest, ABrokenPipeDoesNotEndAProcessThatDoesNotIgnoreIt) {
  auto server = RemotePeer::Start({"name=server"}).value();
  std::ifstream status(absl::StrCat("/proc/", server->pid(), "/status"));
  std::string ignored;
  while (status >> ignored && ignored != "SigIgn:") {
  }
  ASSERT_TRUE(status >> ignored);
  ASSERT_EQ(std::stoull(ignored, nullptr, 16) & (1 << (SIGPIPE - 1)), 0u)
      << "somebody ignores SIGPIPE: this test says nothing";
  Witness witness(*server);
  for (const std::string& path : testing::CpuPaths()) {
    auto client = RemotePeer::Start({"control=none"}).value();
    auto session = client->Ask("connect", server->address(), path, 30000);
    ASSERT_THAT(session.status(), IsOk());
    // A kill while the server writes the echoes.
    client->Ask("echo", session.number(), 1000, 4 << 20, 30000);
    EXPECT_THAT(client->Ask("watch", 32 << 20).status(), IsOk());
    client->Kill();
  }
  witness.ExpectUnharmed(uint64_t{16} << 20);
}

}  // namespace
}  // namespace tensorferry
