// One of two real processes is killed in the middle of a transfer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>

#include "absl/strings/escaping.h"
#include "tests/testing/becomes.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"

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
int RunChild(const std::string& role, const std::string& address,
             const std::string& key) {
  ThreadPool executor(2);
  EndpointOptions options;
  options.executor = &executor;
  auto endpoint = Endpoint::Create(options);
  if (!endpoint.ok()) return 1;
  Outcome<std::shared_ptr<Link>> dialed;
  (*endpoint)->Dial({address}, absl::HexStringToBytes(key), Rules(),
                    absl::Seconds(10), nullptr, dialed.done());
  absl::StatusOr<std::shared_ptr<Link>> link = dialed.Wait();
  if (!link.ok()) return 1;
  TensorMessage message = PatternMessage(kBytes, 1);
  while (true) {
    if (role == "sender") {
      Outcome<Receipt> sent;
      (*link)->Send(message, {}, {}, sent.done());
      if (!sent.Wait().ok()) return 1;
    } else {
      Outcome<Received> received;
      (*link)->Receive({}, received.done());
      if (!received.Wait().ok()) return 1;
    }
  }
}

class PeerDeathTest : public LinkTest {
 protected:
  // Returns the running child with a link to it.
  ChildProcess Meet(const std::string& role) {
    EndpointOptions options;
    options.executor = &executor_;
    endpoint_ = *Endpoint::Create(options);
    StatusOutcome up;
    auto expected = endpoint_->Expect(Rules(), up.done(), down_.done());
    link_ = expected->link;
    auto child = ChildProcess::Start({"--child", role, expected->addresses[0],
                                      absl::BytesToHexString(expected->key)});
    EXPECT_THAT(up.Wait(), IsOk());
    return *std::move(child);
  }

  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  StatusOutcome down_;
};

TEST_F(PeerDeathTest, KilledSenderIsUnavailable) {
  ChildProcess child = Meet("sender");
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
  ChildProcess child = Meet("receiver");
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
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--child") {
    return tensorferry::RunChild(argv[2], argv[3], argv[4]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
