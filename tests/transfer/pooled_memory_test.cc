// Where tensors are received into, and what becomes of that memory.
#include "transfer/pooled_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "pool/pool_budget.h"
#include "tests/testing/becomes.h"
#include "tests/testing/memory_peak.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;

constexpr int64_t kMiB = int64_t{1} << 20;

// Bytes of this process's arenas, or of those that hold `data`.
uint64_t ArenaBytes(const void* data = nullptr) {
  uint64_t total = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:tensorferry") == std::string::npos) continue;
    std::istringstream range(line);
    uintptr_t begin = 0, end = 0;
    char dash = 0;
    range >> std::hex >> begin >> dash >> end;
    const auto at = reinterpret_cast<uintptr_t>(data);
    if (data == nullptr || (begin <= at && at < end)) total += end - begin;
  }
  return total;
}

bool InArena(const at::Tensor& tensor) {
  return ArenaBytes(tensor.const_data_ptr()) > 0;
}

class PooledMemoryTest : public LinkTest {
 protected:
  void ConnectWith(std::optional<uint64_t> pool_bytes,
                   BufferSource* buffers = nullptr) {
    EndpointOptions options;
    options.executor = &executor_;
    options.clock = &fake_clock_;
    options.pool_bytes = pool_bytes;
    options.buffers = buffers;
    absl::StatusOr<InProcessPair> pair =
        MakeInProcessPair(options, options, BasicRules(), BasicRules());
    ASSERT_THAT(pair, IsOk());
    pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  }

  // Undefined if it fails.
  at::Tensor Ferried(int64_t nbytes, uint8_t seed = 1) {
    absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, seed));
    EXPECT_THAT(received, IsOk());
    if (!received.ok()) return at::Tensor();
    at::Tensor tensor = received->message.tensors[0];
    EXPECT_TRUE(SameBytes(tensor, Pattern(nbytes, seed)));
    return tensor;
  }
};

TEST_F(PooledMemoryTest, ReceivedTensorsLieInThePoolAndGoBackToIt) {
  ConnectWith(64 * kMiB);
  at::Tensor tensor = Ferried(3 * kMiB);
  const void* const first = tensor.const_data_ptr();
  EXPECT_TRUE(InArena(tensor));
  at::Tensor other = Ferried(3 * kMiB, 2);
  EXPECT_NE(other.const_data_ptr(), first);
  tensor.reset();
  tensor = Ferried(3 * kMiB, 3);
  EXPECT_EQ(tensor.const_data_ptr(), first);
}

TEST_F(PooledMemoryTest, ByDefaultThereIsAPool) {
  ConnectWith(std::nullopt);
  EXPECT_TRUE(InArena(Ferried(kMiB)));
}

TEST_F(PooledMemoryTest, WithoutAPoolMemoryIsLibtorchs) {
  ConnectWith(0);
  EXPECT_FALSE(InArena(Ferried(kMiB)));
}

TEST_F(PooledMemoryTest, SmallTensorsAreLibtorchs) {
  ConnectWith(64 * kMiB);
  EXPECT_FALSE(InArena(Ferried(PooledMemory::kSmallestBlock - 1)));
  EXPECT_TRUE(InArena(Ferried(PooledMemory::kSmallestBlock)));
}

TEST_F(PooledMemoryTest, SmallTensorsOfALargeMessageShareABlock) {
  ConnectWith(64 * kMiB);
  TensorMessage message;
  for (int i = 0; i < 100; ++i) message.tensors.push_back(Pattern(16384, i));
  absl::StatusOr<Received> received = Transfer(std::move(message));
  ASSERT_THAT(received, IsOk());
  std::vector<at::Tensor> tensors = std::move(received->message.tensors);
  ASSERT_EQ(tensors.size(), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(SameBytes(tensors[i], Pattern(16384, i)));
    EXPECT_TRUE(InArena(tensors[i]));
  }
  // The last of them gives it back.
  const void* const first = tensors[0].const_data_ptr();
  for (int i = 0; i < 99; ++i) tensors[i].reset();
  EXPECT_NE(Ferried(kMiB).const_data_ptr(), first);
  tensors.clear();
  EXPECT_EQ(Ferried(kMiB).const_data_ptr(), first);
}

TEST_F(PooledMemoryTest, TensorsOutliveTheirLinkAndItsEndpoint) {
  ConnectWith(64 * kMiB);
  at::Tensor tensor = Ferried(3 * kMiB);
  pair_.reset();
  EXPECT_TRUE(InArena(tensor));
  EXPECT_TRUE(SameBytes(tensor, Pattern(3 * kMiB, 1)));
  tensor.reset();
  EXPECT_EQ(ArenaBytes(), 0);
}

TEST_F(PooledMemoryTest, BeyondItsLimitTensorsAreDeliveredElsewhere) {
  ConnectWith(8 * kMiB);
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 4; ++i) tensors.push_back(Ferried(5 * kMiB, i));
  EXPECT_TRUE(InArena(tensors[0]));
  for (int i = 1; i < 4; ++i) EXPECT_FALSE(InArena(tensors[i]));
  tensors.clear();
  EXPECT_TRUE(InArena(Ferried(5 * kMiB)));
}

TEST_F(PooledMemoryTest, ManyMessagesTakeNoMoreMemoryThanOne) {
  ConnectWith(64 * kMiB);
  TensorMessage message = PatternMessage(8 * kMiB, 1);
  EXPECT_THAT(Transfer(message), IsOk());
  const uint64_t one = ArenaBytes();
  testing::MemoryPeak peak;
  for (int i = 0; i < 20; ++i) EXPECT_THAT(Transfer(message), IsOk());
  EXPECT_EQ(ArenaBytes(), one);
  EXPECT_LT(peak.Growth(), 40 * kMiB);  // of 160; sanitizers take some too
}

TEST_F(PooledMemoryTest, ATensorCanBeResized) {
  ConnectWith(64 * kMiB);
  at::Tensor tensor = Ferried(kMiB);
  tensor.resize_({2 * kMiB});
  EXPECT_FALSE(InArena(tensor));
  EXPECT_TRUE(SameBytes(tensor.narrow(0, 0, kMiB), Pattern(kMiB, 1)));
}

TEST_F(PooledMemoryTest, MemoryThatIsIdleGoesBackToTheSystem) {
  ConnectWith(64 * kMiB);
  const at::Tensor kept = Ferried(9 * kMiB);
  Ferried(10 * kMiB);
  const uint64_t before = ArenaBytes();
  // A loop that is late makes one look of several.
  EXPECT_TRUE(Becomes([&] {
    fake_clock_.Advance(absl::Seconds(10));
    return ArenaBytes() < before;
  }));
  EXPECT_TRUE(SameBytes(kept, Pattern(9 * kMiB, 1)));
}

TEST_F(PooledMemoryTest, AChildAfterForkReadsATensorAndMayFreeIt) {
  ConnectWith(64 * kMiB);
  at::Tensor tensor = Ferried(kMiB);
  const at::Tensor wanted = Pattern(kMiB, 1);
  const pid_t child = fork();
  if (child == 0) {
    const bool same = SameBytes(tensor, wanted);
    tensor.reset();
    _exit(same ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

class OwnSource : public BufferSource {
 public:
  absl::StatusOr<c10::DataPtr> Take(size_t nbytes, size_t align) override {
    ++taken;
    return memory_.Take(nbytes, align);
  }
  int taken = 0;

 private:
  PooledMemory memory_{
      BufferPool::Create({.budget = std::make_shared<PoolBudget>(64 * kMiB)})};
};

TEST_F(PooledMemoryTest, AUsersOwnSourceGoesFirst) {
  OwnSource source;
  ConnectWith(64 * kMiB, &source);
  EXPECT_TRUE(InArena(Ferried(kMiB)));
  EXPECT_FALSE(InArena(Ferried(100)));
  EXPECT_EQ(source.taken, 2);
}

}  // namespace
}  // namespace tensorferry
