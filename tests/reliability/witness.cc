#include "tests/reliability/witness.h"

#include <gmock/gmock.h>

#include <iostream>
#include <utility>

#include "absl/time/clock.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

// gRPC's own come and go.
constexpr int kThreadsOfGrpc = 4;

}  // namespace

Witness::Witness(RemotePeer& peer) : peer_(peer) {
  auto bystander = RemotePeer::Start({"name=bystander", "control=none"});
  EXPECT_THAT(bystander, IsOk());
  if (!bystander.ok()) return;
  bystander_ = *std::move(bystander);
  Rehearse();
  auto session = bystander_->Ask("connect", peer.address(), "any 30000");
  session_ = session.number();
  EXPECT_THAT(session.status(), IsOk());
  EXPECT_THAT(bystander_->Ask("echo", session_, "3 1048576 30000").status(),
              IsOk());
  before_ = LookAtHeld();
}

// What a process takes once and keeps, it has taken after this.
void Witness::Rehearse() {
  std::vector<RemotePeer::Answer> churns;
  for (int i = 0; i < 4; ++i) {
    churns.push_back(
        bystander_->Ask("churn", peer_.address(), "any 5 1048576"));
  }
  for (RemotePeer::Answer& churn : churns) EXPECT_THAT(churn.status(), IsOk());
  auto killed = RemotePeer::Start({"name=rehearsal", "control=none"});
  ASSERT_THAT(killed, IsOk());
  EXPECT_THAT((*killed)->Ask("connect", peer_.address(), "any 30000").status(),
              IsOk());
  const int descriptors = Look(peer_.pid()).descriptors;
  (*killed)->Kill();
  EXPECT_TRUE(
      Becomes([&] { return Look(peer_.pid()).descriptors < descriptors; }));
}

ProcessView Witness::LookAtHeld() {
  EXPECT_THAT(peer_.Ask("trim").status(), IsOk());
  return Look(peer_.pid());
}

void Witness::ExpectServed() {
  EXPECT_THAT(
      bystander_->Ask("churn", peer_.address(), "any 2 1048576").status(),
      IsOk());
}

void Witness::ExpectUnharmed(uint64_t more_memory) {
  ASSERT_NE(bystander_, nullptr);
  ASSERT_TRUE(IsAlive(peer_.pid()));
  EXPECT_THAT(bystander_->Ask("echo", session_, "3 1048576 30000").status(),
              IsOk());
  ExpectServed();
  const absl::Time began = absl::Now();
  ProcessView now;
  EXPECT_TRUE(Becomes(
      [&] {
        now = LookAtHeld();
        return now.descriptors <= before_.descriptors &&
               now.threads <= before_.threads + kThreadsOfGrpc &&
               now.memfds <= before_.memfds &&
               now.memory <= before_.memory + more_memory;
      },
      absl::Seconds(20)))
      << "before: " << ToString(before_) << "\nnow:    " << ToString(now);
  std::cout << "back to where it was after "
            << absl::FormatDuration(absl::Now() - began) << ": "
            << ToString(before_) << " -> " << ToString(now) << std::endl;
}

}  // namespace testing
}  // namespace tensorferry
