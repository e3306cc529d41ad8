// What other processes can do to a pool's memory: a peer that was given an
// arena, and a child after fork.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pool/arena.h"
#include "pool/buffer_pool.h"
#include "pool/pool_budget.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using Block = BufferPool::Block;

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<BufferPool> Pool() {
  return BufferPool::Create(
      {.budget = std::make_shared<PoolBudget>(64 * kMiB)});
}

// The peer: maps the arena at `path` and fills [offset, offset + nbytes) with
// the byte of each line that it reads.
int RunPeer(const std::string& path, uint64_t arena_bytes, uint64_t offset,
            uint64_t nbytes) {
  absl::StatusOr<std::unique_ptr<PeerArena>> arena =
      PeerArena::Map(UniqueFd(open(path.c_str(), O_RDWR)), arena_bytes);
  WriteLine(arena.status().ToString());
  if (!arena.ok()) return 1;
  for (char line[16]; fgets(line, sizeof line, stdin) != nullptr;) {
    std::memset((*arena)->data() + offset, line[0], nbytes);
    WriteLine("written");
  }
  return 0;
}

absl::StatusOr<ChildProcess> StartPeer(const BufferPool::Place& place,
                                       uint64_t nbytes) {
  return ChildProcess::Start(
      {"--peer",
       absl::StrCat("/proc/", getpid(), "/fd/", place.arena->descriptor()),
       absl::StrCat(place.arena->nbytes()), absl::StrCat(place.offset),
       absl::StrCat(nbytes)});
}

TEST(OtherProcessTest, WhatAPeerWritesAfterAFenceReachesNobody) {
  auto pool = Pool();
  FERRY_ASSERT_OK_AND_ASSIGN(Block before, pool->Take(kMiB));
  FERRY_ASSERT_OK_AND_ASSIGN(Block block, pool->Take(kMiB));
  auto place = pool->PlaceOf(block.data, kMiB);
  ASSERT_TRUE(place);
  FERRY_ASSERT_OK_AND_ASSIGN(ChildProcess peer, StartPeer(*place, kMiB));
  EXPECT_THAT(peer.ReadLine(), IsOkAndHolds("OK"));
  EXPECT_THAT(peer.WriteLine("x"), IsOk());
  EXPECT_THAT(peer.ReadLine(), IsOkAndHolds("written"));
  EXPECT_EQ(block.data[kMiB / 2], std::byte{'x'});

  EXPECT_THAT(pool->Fence(block.data, kMiB), IsOk());
  std::memset(block.data, '-', kMiB);
  EXPECT_THAT(peer.WriteLine("y"), IsOk());
  EXPECT_THAT(peer.ReadLine(), IsOkAndHolds("written"));
  for (uint64_t i = 0; i < kMiB; ++i) {
    ASSERT_EQ(block.data[i], std::byte{'-'}) << i;
  }
  peer.CloseInput();
  EXPECT_EQ(peer.Wait(), 0);
}

// Runs `in_child` in a child after fork; whether it was true.
template <class Check>
bool TrueInAChild(Check in_child) {
  const pid_t child = fork();
  if (child == 0) _exit(in_child() ? 0 : 1);
  int status = 1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(OtherProcessTest, AChildReadsABlockAndWritesToOneOfItsOwn) {
  auto pool = Pool();
  FERRY_ASSERT_OK_AND_ASSIGN(Block block, pool->Take(kMiB));
  std::memset(block.data, 1, kMiB);
  EXPECT_TRUE(TrueInAChild([&] {
    const bool same =
        block.data[0] == std::byte{1} && block.data[kMiB - 1] == std::byte{1};
    std::memset(block.data, 2, kMiB);
    block = Block();  // gives nothing back
    return same;
  }));
  EXPECT_EQ(block.data[0], std::byte{1});
  EXPECT_EQ(block.data[kMiB - 1], std::byte{1});
}

TEST(OtherProcessTest, WhatAChildReadsIsNotHandedOutAgain) {
  auto pool = Pool();
  FERRY_ASSERT_OK_AND_ASSIGN(Block block, pool->Take(kMiB));
  std::memset(block.data, 1, kMiB);
  int go[2];
  ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    close(go[1]);
    const bool woken = read(go[0], &byte, 1) == 0;
    _exit(woken && block.data[0] == std::byte{1} ? 0 : 1);
  }
  close(go[0]);
  block = Block();
  FERRY_ASSERT_OK_AND_ASSIGN(Block next, pool->Take(kMiB));
  std::memset(next.data, 2, kMiB);
  close(go[1]);
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(OtherProcessTest, AfterAForkWhatWasFreeIsHandedOutAsBefore) {
  auto pool = Pool();
  FERRY_ASSERT_OK_AND_ASSIGN(Block block, pool->Take(kMiB));
  std::byte* const first = block.data;
  block = Block();
  EXPECT_TRUE(TrueInAChild([] { return true; }));
  FERRY_ASSERT_OK_AND_ASSIGN(block, pool->Take(kMiB));
  EXPECT_EQ(block.data, first);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 6 && std::string(argv[1]) == "--peer") {
    return tensorferry::testing::RunPeer(argv[2], std::stoull(argv[3]),
                                         std::stoull(argv[4]),
                                         std::stoull(argv[5]));
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
