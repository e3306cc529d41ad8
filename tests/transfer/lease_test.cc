// What lies in lendable memory is received where it is.
#include <ATen/ops/zeros.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "pool/arena.h"
#include "pool/pool_budget.h"
#include "tests/testing/becomes.h"
#include "tests/testing/open_descriptors.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "transfer/lendable_memory.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::OpenDescriptors;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

TransferRules Rules(const std::string& path = "unix/local") {
  TransferRules rules = BasicRules();
  rules.paths = {path};
  return rules;
}

std::vector<std::string> PathsOf(const Receipt& receipt) {
  std::vector<std::string> paths;
  for (const PathUse& use : receipt.paths) paths.push_back(use.path);
  return paths;
}

class LeaseTest : public LinkTest {
 protected:
  ~LeaseTest() override { pair_.reset(); }

  // A tensor of Pattern(nbytes, seed) in `memory_`.
  at::Tensor Lendable(int64_t nbytes, uint8_t seed) {
    absl::StatusOr<at::Tensor> tensor = memory_->Empty({nbytes}, at::kByte);
    EXPECT_THAT(tensor, IsOk());
    tensor->copy_(Pattern(nbytes, seed));
    return *tensor;
  }

  struct Ends {
    absl::StatusOr<Receipt> sent;
    absl::StatusOr<Received> received;
  };
  Ends Lend(std::vector<at::Tensor> tensors, ReceiveOptions options) {
    Outcome<Receipt> sent;
    Outcome<Received> received;
    callee().Receive(std::move(options), received.done());
    SendOptions lend;
    lend.lend = memory_;
    TensorMessage message{.tensors = std::move(tensors)};
    for (size_t i = 0; i < message.tensors.size(); ++i) {
      message.names.push_back(absl::StrCat("t", i));
    }
    caller().Send(std::move(message), {}, std::move(lend), sent.done());
    Ends ends{sent.Wait(), received.Wait()};
    EXPECT_THAT(ends.sent.status(), IsOk());
    EXPECT_THAT(ends.received.status(), IsOk());
    return ends;
  }
  static ReceiveOptions Leases() {
    ReceiveOptions options;
    options.leases = true;
    return options;
  }

  // Of a tensor that the receiver leases.
  at::Tensor Leased(const at::Tensor& tensor) {
    Ends ends = Lend({tensor}, Leases());
    if (!ends.sent.ok() || !ends.received.ok()) return {};
    EXPECT_THAT(PathsOf(*ends.sent),
                ::testing::ElementsAre("unix/local/lease"));
    EXPECT_THAT(PathsOf(ends.received->receipt),
                ::testing::ElementsAre("unix/local/lease"));
    return ends.received->message.tensors.at(0);
  }

  std::shared_ptr<LendableMemory> memory_ = LendableMemory::Create();
};

TEST_F(LeaseTest, WhatIsLentIsWhatTheSenderHas) {
  Connect(Rules());
  const at::Tensor lent = Lendable(80 * kMiB, 1);
  const at::Tensor leased = Leased(lent);
  EXPECT_TRUE(SameBytes(leased, Pattern(80 * kMiB, 1)));
  lent[77 * kMiB] = 5;  // which nobody should
  EXPECT_EQ(leased[77 * kMiB].item<int>(), 5);
}

TEST_F(LeaseTest, WhatTheReceiverWritesTheSenderDoesNotSee) {
  Connect(Rules());
  const at::Tensor lent = Lendable(kMiB, 1);
  const at::Tensor leased = Leased(lent);
  leased.fill_(7);
  EXPECT_TRUE(SameBytes(leased, at::zeros({kMiB}, at::kByte).fill_(7)));
  EXPECT_TRUE(SameBytes(lent, Pattern(kMiB, 1)));
  // Nor who leases it next.
  EXPECT_TRUE(SameBytes(Leased(lent), Pattern(kMiB, 1)));
}

TEST_F(LeaseTest, IsLentUntilTheReceiverHasDroppedIt) {
  Connect(Rules());
  const at::Tensor lent = Lendable(kMiB, 1);
  EXPECT_FALSE(memory_->IsLent(lent));
  at::Tensor leased = Leased(lent);
  EXPECT_TRUE(memory_->IsLent(lent));
  StatusOutcome returned;
  memory_->WhenReturned(lent, returned.done());
  at::Tensor view = leased.narrow(0, 5, 10);
  leased.reset();
  EXPECT_TRUE(memory_->IsLent(lent));
  view.reset();
  EXPECT_THAT(returned.Wait(), IsOk());
  EXPECT_FALSE(memory_->IsLent(lent));
  StatusOutcome at_once;
  memory_->WhenReturned(lent, at_once.done());
  EXPECT_THAT(at_once.Wait(), IsOk());
}

TEST_F(LeaseTest, IsLentFromSendOnUntilItIsKnownThatItIsNot) {
  Connect(Rules());
  const at::Tensor lent = Lendable(kMiB, 1);
  Outcome<Receipt> sent;
  SendOptions lend;
  lend.lend = memory_;
  Operation send =
      caller().Send({.tensors = {lent}}, {}, std::move(lend), sent.done());
  EXPECT_TRUE(memory_->IsLent(lent));
  StatusOutcome returned;
  memory_->WhenReturned(lent, returned.done());
  send.Cancel();  // nobody receives it
  EXPECT_THAT(sent.Wait().status(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(returned.Wait(), IsOk());
  EXPECT_FALSE(memory_->IsLent(lent));
}

TEST_F(LeaseTest, WhatIsCopiedAfterAllMayNotBeWrittenToBeforeItWasSent) {
  for (const char* path : {"unix/local", "unix/basic"}) {
    Connect(Rules(path));
    const at::Tensor lent = Lendable(40 * kMiB, 1);
    Outcome<Receipt> sent;
    SendOptions lend;
    lend.lend = memory_;
    caller().Send({.tensors = {lent}}, {}, std::move(lend), sent.done());
    StatusOutcome rewritten;
    memory_->WhenReturned(
        lent, [lent, done = rewritten.done()](absl::Status status) mutable {
          lent.fill_(9);
          std::move(done)(std::move(status));
        });
    Outcome<Received> received;
    callee().Receive({}, received.done());
    FERRY_ASSERT_OK_AND_ASSIGN(const Received copied, received.Wait());
    EXPECT_TRUE(SameBytes(copied.message.tensors.at(0), Pattern(40 * kMiB, 1)))
        << path;
    EXPECT_THAT(sent.Wait(), IsOk());
    EXPECT_THAT(rewritten.Wait(), IsOk());
  }
}

TEST_F(LeaseTest, WhatHasNoStorageIsNotLent) {
  const at::Tensor sparse = at::zeros({3}).to_sparse();
  for (const at::Tensor& tensor : {at::Tensor(), sparse, at::zeros({3})}) {
    EXPECT_FALSE(memory_->Has(tensor));
    EXPECT_FALSE(memory_->IsLent(tensor));
    StatusOutcome returned;
    memory_->WhenReturned(tensor, returned.done());
    EXPECT_THAT(returned.Wait(), IsOk());
  }
}

TEST_F(LeaseTest, MemoryOfADroppedTensorIsUsedAgainOnceItIsReturned) {
  memory_ = LendableMemory::Create(4 * kMiB);
  Connect(Rules());
  at::Tensor lent = Lendable(3 * kMiB, 1);
  const void* const place = lent.data_ptr();
  at::Tensor leased = Leased(lent);
  lent.reset();
  EXPECT_FALSE(memory_->Has(Lendable(3 * kMiB, 2)));
  EXPECT_TRUE(SameBytes(leased, Pattern(3 * kMiB, 1)));
  leased.reset();
  EXPECT_TRUE(
      Becomes([&] { return Lendable(3 * kMiB, 3).data_ptr() == place; }));
}

TEST_F(LeaseTest, ManyLeasesOfOneTensorAtATime) {
  Connect(Rules());
  const at::Tensor lent = Lendable(kMiB, 1);
  StatusOutcome returned;
  {
    std::vector<at::Tensor> leased;
    for (int i = 0; i < 500; ++i) leased.push_back(Leased(lent));
    memory_->WhenReturned(lent, returned.done());
    for (const at::Tensor& tensor : leased) {
      ASSERT_TRUE(SameBytes(tensor, Pattern(kMiB, 1)));
    }
  }
  EXPECT_THAT(returned.Wait(), IsOk());
  EXPECT_TRUE(SameBytes(Leased(lent), Pattern(kMiB, 1)));
}

TEST_F(LeaseTest, InOneMessageSomeAreLentAndSomeAreCopied) {
  Connect(Rules());
  const at::Tensor lent = Lendable(9 * kMiB, 1), also = Lendable(kMiB, 2);
  Ends ends = Lend({Pattern(20 * kMiB, 3), lent, Pattern(100, 4),
                    also.narrow(0, 4096, 700000), lent.narrow(0, 1, kMiB),
                    also.narrow(0, 1, 900000)},
                   Leases());
  ASSERT_THAT(ends.received, IsOk());
  const std::vector<at::Tensor>& tensors = ends.received->message.tensors;
  ASSERT_EQ(tensors.size(), 6u);
  EXPECT_TRUE(SameBytes(tensors[0], Pattern(20 * kMiB, 3)));
  EXPECT_TRUE(SameBytes(tensors[1], Pattern(9 * kMiB, 1)));
  EXPECT_TRUE(SameBytes(tensors[2], Pattern(100, 4)));
  EXPECT_TRUE(
      SameBytes(tensors[3], Pattern(kMiB, 2).narrow(0, 4096, 700000).clone()));
  EXPECT_TRUE(
      SameBytes(tensors[4], Pattern(9 * kMiB, 1).narrow(0, 1, kMiB).clone()));
  EXPECT_TRUE(
      SameBytes(tensors[5], Pattern(kMiB, 2).narrow(0, 1, 900000).clone()));
  EXPECT_EQ(tensors[1].storage().data(), tensors[4].storage().data());
  EXPECT_THAT(PathsOf(ends.received->receipt),
              ::testing::IsSupersetOf({"unix/local/pool", "unix/local/lease"}));
  lent[5 * kMiB] = 9;
  EXPECT_EQ(tensors[1][5 * kMiB].item<int>(), 9);
}

TEST_F(LeaseTest, WhoDoesNotAskForLeasesGetsACopy) {
  Connect(Rules());
  const at::Tensor lent = Lendable(9 * kMiB, 1);
  const at::Tensor into = at::zeros({9 * kMiB}, at::kByte);
  ReceiveOptions given = Leases();
  given.into.tensors = {into};
  given.into.names = {"t0"};
  for (const ReceiveOptions& options : {ReceiveOptions(), given}) {
    Ends ends = Lend({lent}, options);
    ASSERT_THAT(ends.received, IsOk());
    EXPECT_THAT(PathsOf(ends.received->receipt),
                ::testing::Not(::testing::Contains("unix/local/lease")));
    EXPECT_TRUE(
        SameBytes(ends.received->message.tensors[0], Pattern(9 * kMiB, 1)));
    EXPECT_FALSE(memory_->IsLent(lent));
  }
}

// The copy has a digest, and is as long as it likes.
TEST_F(LeaseTest, ACopyOfWhatCouldBeLentIsDigested) {
  Connect(Rules());
  Ends ends = Lend({Lendable(80 * kMiB, 1)}, {});
  ASSERT_THAT(ends.received, IsOk());
  absl::StatusOr<Received> plain =
      Transfer({.tensors = {Pattern(80 * kMiB, 1)}});
  ASSERT_THAT(plain, IsOk());
  EXPECT_EQ(ends.received->receipt.digest, plain->receipt.digest);
  Ends leased = Lend({Lendable(80 * kMiB, 1)}, Leases());
  ASSERT_THAT(leased.received, IsOk());
  EXPECT_NE(leased.received->receipt.digest, plain->receipt.digest);
}

TEST_F(LeaseTest, IndicesThatAreCheckedAreCopied) {
  Connect(Rules());
  const at::Tensor lent = Lendable(kMiB, 1);
  Ends ends = Lend({lent, Pattern(kMiB, 2).to_sparse()}, Leases());
  ASSERT_THAT(ends.received, IsOk());
  EXPECT_THAT(PathsOf(ends.received->receipt),
              ::testing::Not(::testing::Contains("unix/local/lease")));
  EXPECT_FALSE(memory_->IsLent(lent));
}

TEST_F(LeaseTest, OtherPathsCopy) {
  for (const char* path : {"unix/basic", "tcp/basic"}) {
    Connect(Rules(path));
    Ends ends = Lend({Lendable(20 * kMiB, 1)}, Leases());
    ASSERT_THAT(ends.received, IsOk());
    EXPECT_THAT(PathsOf(ends.received->receipt), ::testing::ElementsAre(path));
    EXPECT_TRUE(
        SameBytes(ends.received->message.tensors[0], Pattern(20 * kMiB, 1)));
  }
}

TEST_F(LeaseTest, WhereThereIsNoRoomMemoryIsLibtorchsAndCopied) {
  memory_ = LendableMemory::Create(6 * kMiB);
  Connect(Rules());
  const at::Tensor inside = Lendable(3 * kMiB, 1),
                   outside = Lendable(4 * kMiB, 2), small = Lendable(100, 3);
  EXPECT_TRUE(memory_->Has(inside));
  EXPECT_FALSE(memory_->Has(outside));
  EXPECT_FALSE(memory_->Has(small));
  Ends ends = Lend({outside, small}, Leases());
  ASSERT_THAT(ends.received, IsOk());
  EXPECT_THAT(PathsOf(ends.received->receipt),
              ::testing::Not(::testing::Contains("unix/local/lease")));
  EXPECT_TRUE(SameBytes(Leased(inside), Pattern(3 * kMiB, 1)));
}

TEST_F(LeaseTest, WhatIsNotReturnedBeforeTheEndIsNotUsedAgain) {
  Connect(Rules());
  at::Tensor lent = Lendable(3 * kMiB, 1);
  // Keeps the arena: an address would else say nothing of the memory.
  const at::Tensor neighbour = Lendable(kMiB / 2, 8);
  const void* const place = lent.data_ptr();
  const at::Tensor leased = Leased(lent);
  StatusOutcome returned;
  memory_->WhenReturned(lent, returned.done());
  pair_.reset();
  EXPECT_THAT(returned.Wait(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("session")));
  EXPECT_TRUE(memory_->IsLent(lent));
  lent.reset();
  for (uint8_t i = 2; i < 6; ++i) {
    EXPECT_NE(Lendable(3 * kMiB, i).data_ptr(), place);
  }
  EXPECT_TRUE(SameBytes(leased, Pattern(3 * kMiB, 1)));
  // And is copied from then on.
  Connect(Rules());
  lent = Lendable(3 * kMiB, 9);
  EXPECT_TRUE(SameBytes(Leased(lent), Pattern(3 * kMiB, 9)));
}

TEST_F(LeaseTest, CancelledOnesAreReturned) {
  Connect(Rules());
  const at::Tensor lent = Lendable(80 * kMiB, 1);
  for (int i = 0; i < 30; ++i) {
    Outcome<Receipt> sent;
    Outcome<Received> received;
    Operation receive = callee().Receive(Leases(), received.done());
    SendOptions lend;
    lend.lend = memory_;
    Operation send =
        caller().Send({.tensors = {lent}}, {}, std::move(lend), sent.done());
    (i % 2 == 0 ? send : receive).Cancel();
    (i % 2 == 0 ? receive : send).Cancel();
    // Or it was through just before.
    sent.Wait().status().IgnoreError();
    received.Wait().status().IgnoreError();
    ASSERT_TRUE(Becomes([&] { return !memory_->IsLent(lent); }));
  }
  EXPECT_TRUE(SameBytes(Leased(lent), Pattern(80 * kMiB, 1)));
}

TEST_F(LeaseTest, DescriptorsAreGoneWithTheEndpoints) {
  const int before = OpenDescriptors();
  for (uint8_t i = 0; i < 3; ++i) {
    memory_ = LendableMemory::Create();
    Connect(Rules());
    at::Tensor lent = Lendable(8 * kMiB, i);
    EXPECT_TRUE(SameBytes(Leased(lent), Pattern(8 * kMiB, i)));
    lent.reset();
    pair_.reset();
    memory_ = nullptr;
  }
  EXPECT_TRUE(Becomes([&] { return OpenDescriptors() <= before; }));
}

// Sessions have the same room to receive into.
TEST(LendableMemoryTest, RoomThatNoTensorHasIsGivenBackAfterAWhile) {
  const auto taken = [] { return PoolBudget::OfProcess()->taken(); };
  const uint64_t before = taken();
  FakeClock clock;
  const auto memory = LendableMemory::Create(std::nullopt, &clock);
  const at::Tensor kept = *memory->Empty({kMiB}, at::kByte);
  const uint64_t with_kept = taken();
  EXPECT_GT(with_kept, before);
  at::Tensor dropped = *memory->Empty({20 * kMiB}, at::kByte);
  const uint64_t with_both = taken();
  EXPECT_GT(with_both, with_kept);
  dropped.reset();
  clock.Advance(absl::Seconds(29));
  EXPECT_EQ(taken(), with_both) << "the next tensor may have it";
  EXPECT_TRUE(Becomes([&] {
    clock.Advance(absl::Seconds(10));
    return taken() == with_kept;
  }));
  EXPECT_TRUE(memory->Has(kept));
}

TEST(LendableMemoryTest, AChildAfterForkHasNothingToLend) {
  const auto memory = LendableMemory::Create();
  const at::Tensor tensor = *memory->Empty({kMiB}, at::kByte);
  const auto has_place = [&] {
    return memory->PlaceOf(tensor.data_ptr(), kMiB).has_value();
  };
  EXPECT_TRUE(has_place());
  const pid_t child = fork();
  if (child == 0) _exit(has_place() ? 1 : 0);
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(LeaseTest, ItsAllocatorServesLibtorch) {
  Connect(Rules());
  c10::DataPtr memory = memory_->allocator().allocate(kMiB);
  EXPECT_NE(memory.get(), nullptr);
  EXPECT_THAT(memory_->Empty({-1}, at::kByte),
              StatusIs(absl::StatusCode::kInvalidArgument));
  absl::StatusOr<at::Tensor> empty = memory_->Empty({0, 3}, at::kFloat);
  ASSERT_THAT(empty, IsOk());
  EXPECT_EQ(empty->sizes(), at::IntArrayRef({0, 3}));
}

}  // namespace
}  // namespace tensorferry
