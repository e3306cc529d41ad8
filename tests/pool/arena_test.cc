#include "pool/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr absl::StatusCode kRefused = absl::StatusCode::kInvalidArgument;

// A number of the mapping at `data`, as the kernel tells it: "Rss".
uint64_t KilobytesOf(const void* data, const std::string& what) {
  char begin[32];
  std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<uintptr_t>(data));
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) here = line.rfind(begin, 0) == 0;
    if (here && line.rfind(what + ":", 0) == 0) {
      return std::stoull(line.substr(what.size() + 1));
    }
  }
  return 0;
}

UniqueFd CopyOf(int descriptor) { return UniqueFd(dup(descriptor)); }

// Memory of a peer that does not do as it should.
UniqueFd Memory(uint64_t nbytes, int seals, unsigned flags = 0) {
  UniqueFd descriptor(
      memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (!descriptor.valid() || ftruncate(descriptor.get(), nbytes) != 0) {
    return UniqueFd();
  }
  if (flags == 0) {
    const std::string bytes(nbytes, 'x');
    EXPECT_EQ(pwrite(descriptor.get(), bytes.data(), nbytes, 0),
              static_cast<ssize_t>(nbytes));
  }
  if (fcntl(descriptor.get(), F_ADD_SEALS, seals) != 0) return UniqueFd();
  return descriptor;
}

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

// Puts a limit of the process back when it goes.
class Limited {
 public:
  Limited(int resource, rlim_t soft) : resource_(resource) {
    getrlimit(resource_, &before_);
    rlimit limit = before_;
    limit.rlim_cur = soft;
    setrlimit(resource_, &limit);
  }
  ~Limited() { setrlimit(resource_, &before_); }

 private:
  const int resource_;
  rlimit before_;
};

TEST(ArenaTest, AllPagesAreThereAndNoMore) {
  const uint64_t nbytes = 4 * kMiB + 3 * kPageBytes;
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, nbytes));
  EXPECT_EQ(arena->nbytes(), nbytes);
  EXPECT_EQ(KilobytesOf(arena->data(), "Rss") * 1024, nbytes);
  struct stat file = {};
  ASSERT_EQ(fstat(arena->descriptor(), &file), 0);
  EXPECT_EQ(static_cast<uint64_t>(file.st_blocks) * 512, nbytes);
}

TEST(ArenaTest, IsAlignedForHugePages) {
  for (const uint64_t nbytes : {kPageBytes, 3 * kMiB}) {
    FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, nbytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->data()) % (2 * kMiB), 0);
  }
}

TEST(ArenaTest, WhereHugePagesAreRefusedThereAreSmallOnes) {
  ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
  absl::StatusOr<std::unique_ptr<Arena>> arena = Arena::Create(1, 8 * kMiB);
  ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
  ASSERT_THAT(arena, IsOk());
  EXPECT_EQ(KilobytesOf((*arena)->data(), "ShmemPmdMapped"), 0);
  EXPECT_EQ(KilobytesOf((*arena)->data(), "Rss"), 8 * 1024);
}

TEST(ArenaTest, AllocationsThatTheSystemRefusesAreNamed) {
  {
    Limited no_room(RLIMIT_AS, 1);
    EXPECT_THAT(Arena::Create(1, 64 * kMiB),
                StatusIs(absl::StatusCode::kResourceExhausted,
                         HasSubstr("67108864 bytes")));
  }
  Limited no_descriptors(RLIMIT_NOFILE, 0);
  EXPECT_THAT(Arena::Create(1, kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("memfd_create")));
}

TEST(ArenaTest, WhoHasTheDescriptorCanNeitherCutNorGrowNorUnsealIt) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, kMiB));
  const UniqueFd peers = CopyOf(arena->descriptor());
  EXPECT_EQ(ftruncate(peers.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(peers.get(), 2 * kMiB), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fcntl(peers.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
  EXPECT_EQ(errno, EPERM);
  // Holes can be made; they are filled again where they are touched.
  EXPECT_EQ(fallocate(peers.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      0, kMiB),
            0);
  EXPECT_EQ(arena->data()[5], std::byte{0});
}

TEST(ArenaTest, APeerThatMayReadCanDoNothingElse) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena,
                             Arena::Create(1, kMiB, Arena::Peer::kReads));
  std::memset(arena->data(), 7, kMiB);
  const UniqueFd peers = CopyOf(arena->descriptor());
  EXPECT_EQ(
      mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, peers.get(), 0),
      MAP_FAILED);
  EXPECT_EQ(pwrite(peers.get(), "x", 1, 0), -1);
  EXPECT_EQ(ftruncate(peers.get(), 0), -1);
  EXPECT_EQ(fallocate(peers.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      0, kMiB),
            -1);
  EXPECT_THAT(PeerArena::Map(CopyOf(peers.get()), kMiB), StatusIs(kRefused));
  EXPECT_EQ(arena->data()[5], std::byte{7});
}

// Where what is lent is put.
class LentArenaTest : public ::testing::Test {
 protected:
  LentArenaTest()
      : place_(static_cast<std::byte*>(
            mmap(nullptr, 4 * kPageBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~LentArenaTest() override { munmap(place_, 4 * kPageBytes); }

  std::byte* const place_;
};

TEST_F(LentArenaTest, WhatIsThereIsHereAndOurWritesAreOurs) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena,
                             Arena::Create(1, kMiB, Arena::Peer::kReads));
  std::memset(arena->data(), 7, kMiB);
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto lent, LentArena::Take(CopyOf(arena->descriptor()), kMiB));
  place_[2 * kPageBytes] = std::byte{1};
  ASSERT_THAT(lent->MapAt(place_, kPageBytes + 1, 8 * kPageBytes), IsOk());
  EXPECT_EQ(place_[0], std::byte{7});
  EXPECT_EQ(place_[kPageBytes], std::byte{7});
  EXPECT_EQ(place_[2 * kPageBytes], std::byte{1})
      << "no more pages than needed";
  arena->data()[8 * kPageBytes] = std::byte{8};
  EXPECT_EQ(place_[0], std::byte{8});
  place_[1] = std::byte{9};
  EXPECT_EQ(arena->data()[8 * kPageBytes + 1], std::byte{7});
}

TEST_F(LentArenaTest, OutlivesItsOwner) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena,
                             Arena::Create(1, kMiB, Arena::Peer::kReads));
  std::memset(arena->data(), 7, kMiB);
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto lent, LentArena::Take(CopyOf(arena->descriptor()), kMiB));
  ASSERT_THAT(lent->MapAt(place_, kPageBytes, 0), IsOk());
  arena = nullptr;
  lent = nullptr;
  EXPECT_EQ(place_[0], std::byte{7});
}

TEST_F(LentArenaTest, WhatIsNotInItIsRefused) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena,
                             Arena::Create(1, kMiB, Arena::Peer::kReads));
  FERRY_ASSERT_OK_AND_ASSIGN(
      auto lent, LentArena::Take(CopyOf(arena->descriptor()), kMiB));
  const std::pair<uint64_t, uint64_t> wrong[] = {
      {1, kMiB}, {kMiB + 1, 0}, {1, 1}, {1, UINT64_MAX}, {UINT64_MAX, 4096}};
  for (const auto& [nbytes, offset] : wrong) {
    EXPECT_THAT(lent->MapAt(place_, nbytes, offset), StatusIs(kRefused))
        << nbytes << " at " << offset;
  }
}

TEST_F(LentArenaTest, WhatItsOwnerCouldTakeAwayIsRefused) {
  for (const int seals :
       {0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_WRITE, kSizeSeals}) {
    EXPECT_THAT(LentArena::Take(Memory(kMiB, seals), kMiB),
                StatusIs(kRefused, HasSubstr("not sealed")));
  }
  EXPECT_THAT(LentArena::Take(Memory(kMiB, kSizeSeals | F_SEAL_WRITE), kMiB),
              IsOk());
  EXPECT_THAT(
      LentArena::Take(Memory(kMiB, kSizeSeals | F_SEAL_WRITE), 2 * kMiB),
      StatusIs(kRefused));
}

// Reading it would make its page, for which there may be no memory: a SIGBUS.
TEST_F(LentArenaTest, AHoleIsRefusedThoughThereAreAsManyBlocksBehindTheEnd) {
  UniqueFd memory(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(memory.get(), kMiB), 0);
  ASSERT_EQ(fallocate(memory.get(), FALLOC_FL_KEEP_SIZE, kMiB, kMiB), 0);
  ASSERT_EQ(fcntl(memory.get(), F_ADD_SEALS, kSizeSeals | F_SEAL_FUTURE_WRITE),
            0);
  EXPECT_THAT(LentArena::Take(std::move(memory), kMiB),
              StatusIs(kRefused, HasSubstr("not made")));
}

TEST(PeerArenaTest, WhatIsWrittenThereIsHere) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, kMiB));
  FERRY_ASSERT_OK_AND_ASSIGN(auto peers,
                             PeerArena::Map(CopyOf(arena->descriptor()), kMiB));
  std::memset(peers->data(), 7, kMiB);
  EXPECT_EQ(std::memcmp(arena->data(), peers->data(), kMiB), 0);
}

TEST(PeerArenaTest, ProcessMapsSoManyAtATimeAndNoMore) {
  const UniqueFd memory = Memory(kPageBytes, kSizeSeals);
  const auto map = [&memory] {
    return PeerArena::Map(CopyOf(memory.get()), kPageBytes);
  };
  std::vector<std::unique_ptr<PeerArena>> arenas;
  while (arenas.size() < PeerArena::kMost) {
    FERRY_ASSERT_OK_AND_ASSIGN(arenas.emplace_back(), map());
  }
  EXPECT_THAT(map(), StatusIs(absl::StatusCode::kResourceExhausted,
                              HasSubstr("8192 arenas of peers")));
  arenas.pop_back();
  EXPECT_THAT(map(), IsOk());
}

TEST(PeerArenaTest, RefusesAnotherSize) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, kMiB));
  for (const uint64_t nbytes :
       {uint64_t{0}, kMiB - 1, kMiB - kPageBytes, 2 * kMiB, UINT64_MAX}) {
    EXPECT_THAT(PeerArena::Map(CopyOf(arena->descriptor()), nbytes),
                StatusIs(kRefused, HasSubstr("1048576 bytes")))
        << nbytes;
  }
}

TEST(PeerArenaTest, RefusesWhatCouldShrinkOrGrow) {
  for (const int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW}) {
    EXPECT_THAT(PeerArena::Map(Memory(kMiB, seals), kMiB),
                StatusIs(kRefused, HasSubstr("not sealed")));
  }
  EXPECT_THAT(PeerArena::Map(Memory(kMiB, kSizeSeals), kMiB), IsOk());
}

TEST(PeerArenaTest, RefusesPagesThatWereNotMade) {
  const UniqueFd memory = Memory(kMiB, kSizeSeals);
  ASSERT_EQ(fallocate(memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      kPageBytes, kPageBytes),
            0);
  EXPECT_THAT(PeerArena::Map(CopyOf(memory.get()), kMiB),
              StatusIs(kRefused, HasSubstr("not made")));
}

TEST(PeerArenaTest, RefusesWhatMustNotBeWritten) {
  EXPECT_THAT(PeerArena::Map(Memory(kMiB, kSizeSeals | F_SEAL_WRITE), kMiB),
              StatusIs(kRefused));
  const UniqueFd memory = Memory(kMiB, kSizeSeals);
  UniqueFd read_only(
      open(absl::StrCat("/proc/self/fd/", memory.get()).c_str(), O_RDONLY));
  EXPECT_THAT(PeerArena::Map(std::move(read_only), kMiB), StatusIs(kRefused));
}

TEST(PeerArenaTest, RefusesWhatIsNoMemfd) {
  UniqueFd file(open("/tmp", O_TMPFILE | O_RDWR, 0600));
  if (file.valid()) {
    ASSERT_EQ(ftruncate(file.get(), kMiB), 0);
    EXPECT_THAT(PeerArena::Map(std::move(file), kMiB), StatusIs(kRefused));
  }
  EXPECT_THAT(PeerArena::Map(UniqueFd(open("/dev/zero", O_RDWR)), kMiB),
              StatusIs(kRefused));
  EXPECT_THAT(PeerArena::Map(UniqueFd(), kMiB), StatusIs(kRefused));
}

// There may be no page for a write, which would be a SIGBUS.
TEST(PeerArenaTest, RefusesHugePagesThatWereSetAside) {
  UniqueFd memory = Memory(2 * kMiB, kSizeSeals, MFD_HUGETLB);
  if (!memory.valid()) GTEST_SKIP() << "no memfd of huge pages here";
  EXPECT_THAT(PeerArena::Map(std::move(memory), 2 * kMiB),
              StatusIs(kRefused, HasSubstr("memfd")));
}

TEST(PeerArenaTest, NoRoomToMapItIsSaid) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto arena, Arena::Create(1, kMiB));
  UniqueFd descriptor = CopyOf(arena->descriptor());
  Limited no_room(RLIMIT_AS, 1);
  EXPECT_THAT(PeerArena::Map(std::move(descriptor), kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
