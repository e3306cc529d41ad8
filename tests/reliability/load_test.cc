// Many sessions, one after the other and at once; many messages; large tensors.
// `--load=full` gives the sizes that are claimed; without it there are fewer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/reliability/paths.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/remote_peer.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::AvailableMemory;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::Look;
using ::tensorferry::testing::ProcessView;
using ::tensorferry::testing::RemotePeer;
using ::testing::HasSubstr;

bool Full() {
  static const bool full = [] {
    const std::vector<std::string> arguments = ::testing::internal::GetArgvs();
    return std::find(arguments.begin(), arguments.end(), "--load=full") !=
           arguments.end();
  }();
  return full;
}

constexpr absl::Duration kLong = absl::Minutes(30);

class LoadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = RemotePeer::Start({"name=server", "sessions=2048"}).value();
    for (int i = 0; i < 4; ++i) {
      clients_.push_back(
          RemotePeer::Start({"name=client", "control=none"}).value());
    }
  }
  RemotePeer& client(int i = 0) { return *clients_[i % clients_.size()]; }

  // `count` sessions to the server, all open.
  std::vector<std::pair<RemotePeer*, int64_t>> Open(int count,
                                                    const std::string& path) {
    std::vector<std::pair<RemotePeer*, RemotePeer::Answer>> answers;
    for (int i = 0; i < count; ++i) {
      answers.emplace_back(
          &client(i),
          client(i).Ask("connect", server_->address(), path, 60000));
    }
    std::vector<std::pair<RemotePeer*, int64_t>> sessions;
    for (auto& [peer, answer] : answers) {
      EXPECT_THAT(answer.status(), IsOk());
      sessions.emplace_back(peer, answer.number());
    }
    return sessions;
  }

  std::unique_ptr<RemotePeer> server_;
  std::vector<std::unique_ptr<RemotePeer>> clients_;
};

class SessionsTest : public LoadTest,
                     public ::testing::WithParamInterface<std::string> {};

TEST_P(SessionsTest, ManyOpenedAndClosedOneAfterTheOtherLeaveNothing) {
  const int sessions = Full() ? 10000 : 100;
  const int warm = sessions / 10;
  ASSERT_THAT(client()
                  .Ask("churn", server_->address(), GetParam(), warm, 4096)
                  .status(kLong),
              IsOk());
  for (RemotePeer* peer : {server_.get(), &client()}) {
    EXPECT_TRUE(Becomes([&] {
      return absl::StrContains(peer->Ask("stats").text(), "sessions=0");
    }));
  }
  const ProcessView server = Look(server_->pid());
  const ProcessView caller = Look(client().pid());
  const absl::Time began = absl::Now();
  ASSERT_THAT(client()
                  .Ask("churn", server_->address(), GetParam(), sessions, 4096)
                  .status(kLong),
              IsOk());
  std::cout << sessions << " sessions, each "
            << absl::FormatDuration((absl::Now() - began) / sessions)
            << std::endl;
  // 0.4 KiB a session, and what malloc rounds up to.
  const uint64_t growth = sessions * 400 + (uint64_t{2} << 20);
  for (const auto& [pid, before] :
       {std::pair(server_->pid(), server), std::pair(client().pid(), caller)}) {
    ProcessView now;
    EXPECT_TRUE(Becomes(
        [&, pid = pid, before = before] {
          now = Look(pid);
          return now.descriptors <= before.descriptors &&
                 now.threads <= before.threads + 4 &&  // gRPC's vary
                 now.memory <= before.memory + growth;
        },
        absl::Seconds(20)));
    std::cout << ToString(before) << " -> " << ToString(now) << std::endl;
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, SessionsTest,
                         ::testing::ValuesIn(testing::CpuPaths()),
                         testing::PathName);

class FairnessTest : public LoadTest,
                     public ::testing::WithParamInterface<std::string> {};

TEST_P(FairnessTest, PeersThatSendAtOnceGetAFairShareEach) {
  constexpr int kPeers = 64;
  const int64_t nbytes = Full() ? 64 << 20 : 8 << 20;
  auto sessions = Open(kPeers, GetParam());
  std::vector<RemotePeer::Answer> sent;
  const absl::Time began = absl::Now();
  // Each in messages that all fit into memory at once.
  for (auto& [peer, session] : sessions) {
    sent.push_back(
        peer->Ask("send", session, nbytes >> 20, 1 << 20, 300000, 4));
  }
  std::vector<absl::Duration> took;
  for (RemotePeer::Answer& answer : sent) {
    ASSERT_THAT(answer.status(kLong), IsOk());
    took.push_back(answer.at() - began);
  }
  std::sort(took.begin(), took.end());
  std::cout << kPeers << " x " << (nbytes >> 20) << " MiB: fastest "
            << took.front() << ", slowest " << took.back() << ", ratio "
            << absl::FDivDuration(took.back(), took.front()) << std::endl;
  EXPECT_LE(absl::FDivDuration(took.back(), took.front()), 3);
  // The last acknowledgement may be here before its receiver was called back.
  const std::string all = absl::StrCat("received=", kPeers * (nbytes >> 20),
                                       " corrupt=0 misordered=0");
  std::string stats;
  EXPECT_TRUE(Becomes(
      [&] {
        stats = server_->Ask("stats").text();
        return stats.find(all) != std::string::npos;
      },
      absl::Seconds(20)))
      << stats;
}

INSTANTIATE_TEST_SUITE_P(Paths, FairnessTest,
                         ::testing::ValuesIn(testing::CpuPaths()),
                         testing::PathName);

TEST_F(LoadTest, AThousandSessionsAreHeldAtOnce) {
  const int count = Full() ? 1000 : 200;
  const ProcessView before = Look(server_->pid());
  std::vector<std::pair<RemotePeer*, int64_t>> sessions;
  while (static_cast<int>(sessions.size()) < count) {
    const int more = std::min<int>(64, count - sessions.size());
    for (const auto& session : Open(more, "any")) sessions.push_back(session);
  }
  const ProcessView held = Look(server_->pid());
  std::cout << count << " sessions: " << ToString(held) << ", each "
            << 1.0 * (held.descriptors - before.descriptors) / count
            << " descriptors, " << (held.memory - before.memory) / count / 1024
            << " KiB" << std::endl;
  for (auto& [peer, session] : sessions) {
    EXPECT_THAT(peer->Ask("echo", session, 1, 4096, 30000).status(), IsOk());
  }
  EXPECT_LE(held.threads, before.threads + 16) << "threads per session";
}

TEST_F(LoadTest, AMillionSmallMessagesArriveInOrder) {
  const int64_t count = Full() ? 1'000'000 : 10'000;
  auto sessions = Open(1, "any");
  const absl::Time began = absl::Now();
  ASSERT_THAT(client()
                  .Ask("send", sessions[0].second, count, 1024, 60000, 64)
                  .status(kLong),
              IsOk());
  std::cout << count << " messages, each "
            << absl::FormatDuration((absl::Now() - began) / count) << std::endl;
  EXPECT_THAT(
      server_->Ask("stats").text(),
      HasSubstr(absl::StrCat("received=", count, " corrupt=0 misordered=0")));
}

TEST_P(SessionsTest, ATensorBeyondFourGibibytesArrivesIntact) {
  const int64_t nbytes = (int64_t{4} << 30) + (int64_t{64} << 20);
  if (!Full() || AvailableMemory() < uint64_t(nbytes) * 5 / 2) {
    GTEST_SKIP() << "needs --load=full and twice " << nbytes
                 << " bytes of memory";
  }
  auto sessions = Open(1, GetParam());
  EXPECT_THAT(
      client().Ask("send", sessions[0].second, 1, nbytes, 300000).status(kLong),
      IsOk());
  EXPECT_THAT(server_->Ask("stats").text(), HasSubstr("received=1 corrupt=0"));
}

}  // namespace
}  // namespace tensorferry
