// The system refuses process_vm_readv while a link is up. A program of its own:
// what a process has forbidden itself stays so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include "channel/local_channel.h"
#include "tests/testing/forbid_call.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::testing::HasSubstr;

void ExpectBothStrategies(const Receipt& receipt) {
  ASSERT_EQ(receipt.paths.size(), 2u);
  EXPECT_EQ(receipt.paths[0].path, "unix/local/vm");
  EXPECT_EQ(receipt.paths[0].bytes, 0u);
  EXPECT_FALSE(receipt.paths[0].status.ok());
  EXPECT_THAT(receipt.paths[0].status.message(), HasSubstr("process_vm_readv"));
  EXPECT_EQ(receipt.paths[1].path, "unix/local/stream");
  EXPECT_THAT(receipt.paths[1].status, IsOk());
}

using VmRefusedTest = LinkTest;

TEST_F(VmRefusedTest, TransferGoesOnThroughTheStreamAndSaysWhy) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  TransferRules rules = BasicRules();
  rules.paths = {"unix/local"};
  Connect(rules, Clock::Real(), /*pool_bytes=*/0);
  absl::StatusOr<Received> before = Transfer(PatternMessage(3 << 20, 1));
  ASSERT_THAT(before, IsOk());
  ASSERT_EQ(before->receipt.paths[0].path, "unix/local/vm");

  if (!testing::ForbidCall(SYS_process_vm_readv))
    GTEST_SKIP() << "no seccomp here";
  EXPECT_THAT(WhyUnreadable(), HasSubstr("process_vm_readv"));
  for (bool callee_sends : {false, true}) {
    Link& from = callee_sends ? callee() : caller();
    Link& to = callee_sends ? caller() : callee();
    for (int i = 0; i < 8; ++i) {  // so that every lane has its turn
      Outcome<Received> received;
      Outcome<Receipt> sent;
      to.Receive({}, received.done());
      from.Send(PatternMessage(3 << 20, i), {}, {}, sent.done());
      absl::StatusOr<Receipt> receipt = sent.Wait();
      absl::StatusOr<Received> message = received.Wait();
      ASSERT_THAT(receipt, IsOk());
      ASSERT_THAT(message, IsOk());
      EXPECT_TRUE(SameBytes(message->message.tensors[0], Pattern(3 << 20, i)));
      ExpectBothStrategies(*receipt);
      ExpectBothStrategies(message->receipt);
    }
  }
}

}  // namespace
}  // namespace tensorferry
