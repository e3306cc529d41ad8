// A lender and who leases from it are two real processes, of which one is
// killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <utility>

#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/child_link.h"
#include "transfer/lendable_memory.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::WriteLine;

using absl::StatusCode;

constexpr int64_t kBytes = 16 << 20;

TransferRules Rules() {
  TransferRules rules = BasicRules();
  rules.paths = {"unix/local"};
  return rules;
}

at::Tensor Lendable(const LendableMemory& memory, uint8_t seed) {
  at::Tensor tensor = *memory.Empty({kBytes}, at::kByte);
  tensor.copy_(Pattern(kBytes, seed));
  return tensor;
}

absl::StatusOr<Receipt> Lend(Link& link,
                             const std::shared_ptr<LendableMemory>& memory,
                             const at::Tensor& tensor) {
  Outcome<Receipt> sent;
  SendOptions options;
  options.lend = memory;
  link.Send({.tensors = {tensor}, .names = {"t"}}, {}, std::move(options),
            sent.done());
  return sent.Wait();
}

// The tensor; none: it was not leased.
at::Tensor Lease(Link& link) {
  Outcome<Received> received;
  ReceiveOptions options;
  options.leases = true;
  link.Receive(std::move(options), received.done());
  absl::StatusOr<Received> taken = received.Wait();
  if (!taken.ok() || taken->receipt.paths.size() != 1 ||
      taken->receipt.paths[0].path != "unix/local/lease") {
    return {};
  }
  return taken->message.tensors.at(0);
}

// The child: lends, or leases, and says so; until it is killed. The lessee
// drops each tensor that it was sent but the last.
int Play(const std::string& role, Link& link) {
  const auto memory = LendableMemory::Create();
  at::Tensor tensor;
  for (uint8_t seed = 1;; ++seed) {
    if (role == "lender") {
      tensor = Lendable(*memory, seed);
      if (!Lend(link, memory, tensor).ok()) return 1;
    } else {
      tensor.reset();
      tensor = Lease(link);
      if (!tensor.defined()) return 1;
      WriteLine(SameBytes(tensor, Pattern(kBytes, seed)) ? "right" : "wrong");
    }
  }
}

using LeaseProcessTest = ChildLinkTest;

TEST_F(LeaseProcessTest, AKilledLesseeReturnsNothingAndItsMemoryIsNotUsed) {
  ChildProcess child = Meet("lessee", Rules());
  const auto memory = LendableMemory::Create();
  // Arenas are as large as what there is, so the three after it share one,
  // which stays for the last: an address would else say nothing of the memory.
  const at::Tensor large = *memory->Empty({4 * kBytes}, at::kByte);
  at::Tensor first = Lendable(*memory, 1), second = Lendable(*memory, 2);
  const at::Tensor neighbour = Lendable(*memory, 3);
  ASSERT_THAT(Lend(*link_, memory, first), IsOk());
  EXPECT_EQ(*child.ReadLine(), "right");
  StatusOutcome first_returned, second_returned;
  memory->WhenReturned(first, first_returned.done());
  ASSERT_THAT(Lend(*link_, memory, second), IsOk());
  EXPECT_EQ(*child.ReadLine(), "right");
  EXPECT_THAT(first_returned.Wait(), IsOk()) << "it was dropped there";
  memory->WhenReturned(second, second_returned.done());
  child.Signal(SIGKILL);
  EXPECT_THAT(second_returned.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_TRUE(memory->IsLent(second));
  const void* const place = second.data_ptr();
  second.reset();
  for (uint8_t seed = 3; seed < 6; ++seed) {
    EXPECT_NE(Lendable(*memory, seed).data_ptr(), place);
  }
}

// Nor is that a SIGBUS.
TEST_F(LeaseProcessTest, WhatAKilledLenderHasLentStaysAsItWas) {
  ChildProcess child = Meet("lender", Rules());
  const at::Tensor first = Lease(*link_), second = Lease(*link_);
  ASSERT_TRUE(first.defined() && second.defined());
  child.Signal(SIGKILL);
  child.Wait();
  EXPECT_THAT(down_.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_TRUE(SameBytes(first, Pattern(kBytes, 1)));
  link_ = nullptr;
  endpoint_ = nullptr;
  EXPECT_TRUE(SameBytes(second, Pattern(kBytes, 2)));
  second[7] = 1;  // a page of our own
  EXPECT_EQ(second[7].item<int>(), 1);
}

}  // namespace

int Main(int argc, char** argv) {
  return RunTestsOrChild(argc, argv, Rules(), Play);
}

}  // namespace tensorferry

int main(int argc, char** argv) { return tensorferry::Main(argc, argv); }
