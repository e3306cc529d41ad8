// One of two real processes is killed in the middle of a transfer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>

#include "tests/testing/becomes.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/child_link.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;

using absl::StatusCode;

constexpr int64_t kBytes = 64 << 20;

TransferRules Rules() {
  TransferRules rules = BasicRules();
  rules.paths = {"unix/local"};
  rules.piece_bytes = 1 << 20;
  return rules;
}

// The child: sends, or receives, until it is killed.
int Play(const std::string& role, Link& link) {
  TensorMessage message = PatternMessage(kBytes, 1);
  while (true) {
    if (role == "sender") {
      Outcome<Receipt> sent;
      link.Send(message, {}, {}, sent.done());
      if (!sent.Wait().ok()) return 1;
    } else {
      Outcome<Received> received;
      link.Receive({}, received.done());
      if (!received.Wait().ok()) return 1;
    }
  }
}

using PeerDeathTest = ChildLinkTest;

TEST_F(PeerDeathTest, KilledSenderIsUnavailable) {
  ChildProcess child = Meet("sender", Rules());
  Outcome<Received> first, second;
  link_->Receive({}, first.done());
  EXPECT_THAT(first.Wait(), IsOk());
  uint64_t before = link_->counters().bytes_received;
  link_->Receive({}, second.done());
  EXPECT_TRUE(
      Becomes([&] { return link_->counters().bytes_received != before; }));
  child.Signal(SIGKILL);
  EXPECT_THAT(second.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(PeerDeathTest, KilledReceiverIsUnavailable) {
  ChildProcess child = Meet("receiver", Rules());
  Outcome<Receipt> first, second;
  link_->Send(PatternMessage(kBytes, 1), {}, {}, first.done());
  EXPECT_THAT(first.Wait(), IsOk());
  uint64_t before = link_->counters().bytes_sent;
  link_->Send(PatternMessage(8 * kBytes, 1), {}, {}, second.done());
  EXPECT_TRUE(Becomes([&] { return link_->counters().bytes_sent != before; }));
  child.Signal(SIGKILL);
  EXPECT_THAT(second.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kUnavailable));
}

}  // namespace

int Main(int argc, char** argv) {
  return RunTestsOrChild(argc, argv, Rules(), Play);
}

}  // namespace tensorferry

int main(int argc, char** argv) { return tensorferry::Main(argc, argv); }
