// The receiver has what the sender lends where it is: honest ends, and liars at
// either.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "channel/local_channel.h"
#include "channel/peer_memory.h"
#include "pool/arena.h"
#include "pool/buffer_pool.h"
#include "pool/lease_space.h"
#include "pool/pool_budget.h"
#include "tests/channel/channel_fixture.h"
#include "tests/testing/becomes.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/open_descriptors.h"
#include "tests/testing/status_matchers.h"
#include "transport/descriptors.h"

namespace tensorferry {
namespace testing {
namespace {

using absl::StatusCode;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::OpenDescriptors;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = LocalFrame::Kind;

constexpr size_t kMiB = 1 << 20;

std::shared_ptr<BufferPool> NewPool(uint64_t arena_bytes = 64 * kMiB) {
  return BufferPool::Create({.budget = std::make_shared<PoolBudget>(512 * kMiB),
                             .peer = Arena::Peer::kReads,
                             .arena_bytes = arena_bytes,
                             .idle = absl::ZeroDuration()});
}

LocalChannelOptions Options() {
  LocalChannelOptions options;
  options.peer_of = ThisProcess;
  options.descriptors = HubDescriptors();
  return options;
}

// Lends all that lies in `pool`.
LocalChannelOptions Lender(std::shared_ptr<BufferPool> pool) {
  LocalChannelOptions options = Options();
  options.lent = [pool = std::move(pool)](const void* data, uint64_t length) {
    return pool->PlaceOf(data, length);
  };
  return options;
}

LocalChannelOptions Lessee(std::shared_ptr<const LeaseSpace> space) {
  LocalChannelOptions options = Options();
  options.leases = std::move(space);
  return options;
}

BufferPool::Block Filled(BufferPool& pool, size_t length, int seed) {
  const auto block = pool.Take(length);
  EXPECT_THAT(block, IsOk());
  const std::string bytes = Pattern(length, seed);
  std::memcpy(block->data, bytes.data(), length);
  return *block;
}

std::string BytesAt(const std::byte* data, size_t length) {
  return std::string(reinterpret_cast<const char*>(data), length);
}

void SendBlock(tensorpipe::channel::Channel& channel,
               const BufferPool::Block& block, size_t length,
               Outcome& outcome) {
  channel.send(tensorpipe::CpuBuffer{block.data}, length, outcome.done());
}

void ReceiveAt(tensorpipe::channel::Channel& channel,
               const LeaseSpace::Range& range, size_t length,
               Outcome& outcome) {
  channel.recv(tensorpipe::CpuBuffer{range.data}, length, outcome.done());
}

void ExpectCarried(const std::vector<Carried>& carried, size_t count,
                   const std::string& strategy, const std::string& not_lease) {
  testing::ExpectCarried(carried, count, strategy, &Carried::not_lease,
                         not_lease);
}

// A lender and who leases from it, over `Wire`.
template <class Wire = UnixConnections>
struct Pair {
  Pair(LocalChannelOptions near_options, LocalChannelOptions far_options)
      : near_side(std::move(near_options)), far_side(std::move(far_options)) {
    near = near_side.Open(wire.dialed);
    far = far_side.Open(wire.accepted);
  }
  ~Pair() {
    near->close();
    far->close();
  }

  Wire wire;
  Side near_side, far_side;
  std::shared_ptr<tensorpipe::channel::Channel> near, far;
};

class LeaseChannelTest : public ::testing::Test {
 protected:
  // From near to far; what was received.
  template <class Pair>
  LeaseSpace::Range Transfer(Pair& pair, size_t length, int seed = 1) {
    const BufferPool::Block block = Filled(*pool_, length, seed);
    return Transfer(pair, block, length);
  }
  template <class Pair>
  LeaseSpace::Range Transfer(Pair& pair, const BufferPool::Block& block,
                             size_t length) {
    const auto range = space_->Reserve(length);
    EXPECT_THAT(range, IsOk());
    Outcome sent, received;
    SendBlock(*pair.near, block, length, sent);
    ReceiveAt(*pair.far, *range, length, received);
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_THAT(sent.Wait(), IsOk());
    EXPECT_EQ(std::memcmp(range->data, block.data, length), 0);
    return *range;
  }

  std::shared_ptr<BufferPool> pool_ = NewPool();
  std::shared_ptr<LeaseSpace> space_ = LeaseSpace::Create();
};

TEST_F(LeaseChannelTest, TheReceiverLooksAtTheSendersMemory) {
  Pair pair(Lender(pool_), Lessee(space_));
  for (const size_t length : {size_t{1}, size_t{4096}, kMiB + 1, 80 * kMiB}) {
    const BufferPool::Block block = Filled(*pool_, length, 1);
    const LeaseSpace::Range range = Transfer(pair, block, length);
    block.data[length - 1] ^= std::byte{255};
    EXPECT_EQ(range.data[length - 1], block.data[length - 1]);
  }
  ExpectCarried(pair.near_side.carried(), 4, "lease", "");
  ExpectCarried(pair.far_side.carried(), 4, "lease", "");
}

TEST_F(LeaseChannelTest, SendsThatAreBeforeThePeersHelloAreLent) {
  UnixConnections wire;
  Side near_side(Lender(pool_)), far_side(Lessee(space_));
  const auto near = near_side.Open(wire.dialed);
  std::vector<BufferPool::Block> blocks;
  std::vector<LeaseSpace::Range> ranges;
  std::vector<Outcome> outcomes(6);
  for (int i = 0; i < 3; ++i) {
    blocks.push_back(Filled(*pool_, kMiB, i));
    ranges.push_back(*space_->Reserve(kMiB));
    SendBlock(*near, blocks[i], kMiB, outcomes[i]);
  }
  near_side.Flush();
  const auto far = far_side.Open(wire.accepted);
  for (int i = 0; i < 3; ++i) {
    ReceiveAt(*far, ranges[i], kMiB, outcomes[3 + i]);
  }
  for (Outcome& outcome : outcomes) ASSERT_THAT(outcome.Wait(), IsOk());
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(BytesAt(ranges[i].data, kMiB) == Pattern(kMiB, i));
  }
  ExpectCarried(far_side.carried(), 3, "lease", "");
  near->close();
  far->close();
}

TEST_F(LeaseChannelTest, CloseBeforeThePeersHelloEndsWhatWaitsForIt) {
  UnixConnections wire;
  Side near_side(Lender(pool_));
  const auto near = near_side.Open(wire.dialed);
  Outcome sent;
  SendBlock(*near, Filled(*pool_, kMiB, 1), kMiB, sent);
  near_side.Flush();
  EXPECT_FALSE(sent.ended());
  near->close();
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kCancelled));
}

// Both ways; some of it is lent, some is not.
TEST_F(LeaseChannelTest, ManyAreCarriedInOrder) {
  LocalChannelOptions both = Lender(pool_);
  both.leases = space_;
  Pair pair(both, both);
  constexpr int kCount = 60;
  std::vector<BufferPool::Block> blocks;
  std::vector<LeaseSpace::Range> ranges;
  std::vector<std::string> plain, into(kCount);
  plain.reserve(kCount);  // short strings stay where they are sent from
  std::vector<Outcome> outcomes(4 * kCount);
  for (int i = 0; i < kCount; ++i) {
    const size_t length = (i % 5) * 300'000 + i + 1;
    blocks.push_back(Filled(*pool_, length, i));
    ranges.push_back(*space_->Reserve(length));
    plain.push_back(Pattern(i % 7 == 0 ? 0 : length, i + 1000));
    into[i].resize(plain[i].size());
    auto& one = i % 2 == 0 ? pair.near : pair.far;
    auto& other = i % 2 == 0 ? pair.far : pair.near;
    SendBlock(*one, blocks[i], length, outcomes[i]);
    Send(*one, plain[i], outcomes[kCount + i]);
    ReceiveAt(*other, ranges[i], length, outcomes[2 * kCount + i]);
    Receive(*other, into[i], outcomes[3 * kCount + i]);
  }
  for (Outcome& outcome : outcomes) ASSERT_THAT(outcome.Wait(), IsOk());
  EXPECT_TRUE(into == plain);
  for (int i = 0; i < kCount; ++i) {
    const size_t length = (i % 5) * 300'000 + i + 1;
    EXPECT_EQ(std::memcmp(ranges[i].data, blocks[i].data, length), 0) << i;
  }
}

TEST_F(LeaseChannelTest, MoreArenasThanOneChannelMayLendAreCopied) {
  pool_ = NewPool(/*arena_bytes=*/kPageBytes);  // each block has its own
  Pair pair(Lender(pool_), Lessee(space_));
  std::vector<BufferPool::Block> blocks;
  for (size_t i = 0; i < kMostLentArenas; ++i) {
    blocks.push_back(Filled(*pool_, 5 * kMiB, static_cast<int>(i)));
    Transfer(pair, blocks[i], 5 * kMiB);
  }
  ExpectCarried(pair.far_side.carried(), kMostLentArenas, "lease", "");
  Transfer(pair, 5 * kMiB);
  EXPECT_EQ(pair.far_side.carried().back().strategy, "vm");
  EXPECT_THAT(
      pair.far_side.carried().back().not_lease,
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("the sender")));
  EXPECT_THAT(
      pair.near_side.carried().back().not_lease,
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("all of the 16")));
  // Those that it has are lent as before.
  Transfer(pair, blocks[3], 5 * kMiB);
  EXPECT_EQ(pair.far_side.carried().back().strategy, "lease");
}

TEST_F(LeaseChannelTest, ArenasThatAreGoneMakeRoomForOthers) {
  pool_ = NewPool(/*arena_bytes=*/kPageBytes);
  Pair pair(Lender(pool_), Lessee(space_));
  for (size_t i = 0; i < 3 * kMostLentArenas; ++i) {
    Transfer(pair, 5 * kMiB, static_cast<int>(i));
    pool_->Trim();
  }
  ExpectCarried(pair.far_side.carried(), 3 * kMostLentArenas, "lease", "");
}

TEST_F(LeaseChannelTest, WhatWasLeasedOutlivesArenaAndChannels) {
  LeaseSpace::Range range;
  const int before = OpenDescriptors();
  {
    Pair pair(Lender(pool_), Lessee(space_));
    range = Transfer(pair, 5 * kMiB);
    pool_ = nullptr;
  }
  EXPECT_TRUE(Becomes([&] { return OpenDescriptors() <= before; }));
  EXPECT_TRUE(BytesAt(range.data, 5 * kMiB) == Pattern(5 * kMiB, 1));
}

// ---- in another way, as `carried` says

TEST_F(LeaseChannelTest, BuffersThatAreNotForLeasesAreCopied) {
  Pair pair(Lender(pool_), Lessee(space_));
  const BufferPool::Block block = Filled(*pool_, kMiB, 1);
  std::string into(kMiB, '\0');
  Outcome sent, received;
  SendBlock(*pair.near, block, kMiB, sent);
  Receive(*pair.far, into, received);
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_EQ(into, Pattern(kMiB, 1));
  ExpectCarried(pair.far_side.carried(), 1, "vm", "");
  ExpectCarried(pair.near_side.carried(), 1, "vm", "does not take");
}

TEST_F(LeaseChannelTest, ASenderThatLendsNothingIsRead) {
  Pair pair(Options(), Lessee(space_));
  Transfer(pair, kMiB);
  ExpectCarried(pair.near_side.carried(), 1, "vm", "");
  ExpectCarried(pair.far_side.carried(), 1, "vm", "the sender");
}

TEST_F(LeaseChannelTest, AConnectionWithoutDescriptorsCopies) {
  Pair<UvConnections> pair(Lender(pool_), Lessee(space_));
  Transfer(pair, kMiB);
  ExpectCarried(pair.near_side.carried(), 1, "vm", "carries no descriptors");
  ExpectCarried(pair.far_side.carried(), 1, "vm", "the sender");
}

TEST_F(LeaseChannelTest, WhereNoDescriptorMayGoItIsCopied) {
  LocalChannelOptions lender = Lender(pool_);
  lender.descriptors.write = [](Connection& connection, int, const void*,
                                const void* without, size_t length,
                                DescriptorPassing::Written written) {
    connection.write(without, length, std::move(written));
  };
  LocalChannelOptions lessee = Lessee(space_);
  lessee.peer_of = nullptr;
  Pair pair(lender, lessee);
  for (int i = 0; i < 3; ++i) Transfer(pair, kMiB);
  ExpectCarried(pair.far_side.carried(), 3, "stream", "does not let");
}

TEST_F(LeaseChannelTest, AReceiverThatTakesNoDescriptorsReads) {
  LocalChannelOptions lessee = Lessee(space_);
  lessee.descriptors = {};
  Pair pair(Lender(pool_), lessee);
  for (int i = 0; i < 3; ++i) Transfer(pair, kMiB);
  ExpectCarried(pair.far_side.carried(), 3, "vm", "takes no descriptors");
}

// ---- ends in between

class HeldLesseeTest : public LeaseChannelTest {
 protected:
  HeldLesseeTest() : pair_(Lender(pool_), HeldLessee()) {
    SendBlock(*pair_.near, block_, kMiB, sent_);
    ReceiveAt(*pair_.far, range_, kMiB, received_);
  }

  LocalChannelOptions HeldLessee() {
    LocalChannelOptions options = Lessee(space_);
    options.copier = &copier_;
    return options;
  }

  // With the copier's next task still to do, after the first `done` of them.
  void CloseAfter(int done) {
    for (int i = 0; i < done; ++i) ASSERT_TRUE(copier_.RunOne());
    ASSERT_TRUE(copier_.AwaitOne());
    pair_.far->close();
    EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kCancelled));
    EXPECT_THAT(sent_.Wait(), StatusIs(StatusCode::kUnavailable));
    copier_.RunAll();
    EXPECT_TRUE(BytesAt(range_.data, kMiB) == std::string(kMiB, '\0'))
        << "nothing is put there after the callback";
  }

  HeldExecutor copier_;
  const BufferPool::Block block_ = Filled(*pool_, kMiB, 1);
  const LeaseSpace::Range range_ = *space_->Reserve(kMiB);
  Pair<> pair_;
  Outcome sent_, received_;
};

TEST_F(HeldLesseeTest, CloseBeforeTheArenaIsTaken) { CloseAfter(1); }

TEST_F(HeldLesseeTest, CloseBeforeTheLeaseIsMapped) { CloseAfter(2); }

// ---- the lender lies

UniqueFd MemoryOf(const std::string& bytes, int seals) {
  UniqueFd memory(memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(pwrite(memory.get(), bytes.data(), bytes.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(fcntl(memory.get(), F_ADD_SEALS, seals), 0);
  return memory;
}

class LyingLenderTest : public ::testing::Test {
 protected:
  static constexpr int kSealed =
      F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
  static constexpr uint64_t kArenaBytes = 16 * kPageBytes;
  static constexpr size_t kLength = 5000;

  explicit LyingLenderTest(bool open = true) : side_(Lessee(space_)) {
    if (!open) range_.open = nullptr;
    channel_ = side_.Open(wire_.accepted);
    peer_.Write({.kind = Kind::kHello,
                 .address = nonce_.address(),
                 .nonce = nonce_.value()});
    EXPECT_EQ(peer_.Read()->kind, Kind::kHello);
    ReceiveAt(*channel_, range_, kLength, received_);
    side_.Flush();
  }
  ~LyingLenderTest() override { channel_->close(); }

  void Lend(int descriptor, uint64_t nbytes = kArenaBytes, uint8_t arena = 0) {
    peer_.WriteWith(descriptor,
                    {.kind = Kind::kLend, .arena = arena, .length = nbytes});
  }
  void Loan(uint64_t offset, uint8_t arena = 0) {
    peer_.Write({.kind = Kind::kLoan,
                 .arena = arena,
                 .length = kLength,
                 .address = reinterpret_cast<uint64_t>(plain_.data()),
                 .offset = offset});
  }

  void ExpectLeased(uint64_t offset, const std::string& arena) {
    const auto leased = peer_.Read();
    ASSERT_THAT(leased, IsOk());
    EXPECT_EQ(leased->kind, Kind::kLeased);
    EXPECT_THAT(received_.Wait(), IsOk());
    EXPECT_TRUE(BytesAt(range_.data, kLength) == arena.substr(offset, kLength));
    ExpectCarried(side_.carried(), 1, "lease", "");
  }
  // It is read from where it is said to lie otherwise.
  void ExpectCopied(const std::string& why) {
    EXPECT_THAT(received_.Wait(), IsOk());
    EXPECT_TRUE(BytesAt(range_.data, kLength) == plain_);
    EXPECT_EQ(peer_.Read()->kind, Kind::kDone);
    ExpectCarried(side_.carried(), 1, "vm", why);
  }
  void ExpectDataLoss() {
    EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kDataLoss));
    EXPECT_TRUE(peer_.AwaitEnd());
  }

  const std::string bytes_ = Pattern(kArenaBytes, 1),
                    plain_ = Pattern(kLength, 2);
  const std::shared_ptr<LeaseSpace> space_ = LeaseSpace::Create();
  LeaseSpace::Range range_ = *space_->Reserve(kLength);
  UnixConnections wire_;
  PlacedNonce nonce_;
  Side side_;
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
  RawPeer peer_{wire_.dialed};
  Outcome received_;
};

TEST_F(LyingLenderTest, HonestHandIsServed) {
  Lend(MemoryOf(bytes_, kSealed).get(), kArenaBytes, kMostLentArenas - 1);
  Loan(2 * kPageBytes, kMostLentArenas - 1);
  ExpectLeased(2 * kPageBytes, bytes_);
}

TEST_F(LyingLenderTest, OneThatDiesLeavesWhatItHasLent) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(0);
  ExpectLeased(0, bytes_);
  wire_.dialed->close();
  channel_->close();
  side_.Flush();
  EXPECT_TRUE(BytesAt(range_.data, kLength) == bytes_.substr(0, kLength));
}

// What was leased is the user's, who receives into it once more.
class LateLenderTest : public LyingLenderTest {
 protected:
  LateLenderTest() : LyingLenderTest(/*open=*/false) {}
};

TEST_F(LateLenderTest, WhatIsLentAfterTheLeaseIsCopied) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(0);
  ExpectCopied("");
}

TEST_F(LyingLenderTest, ArenaThatWasNotLentIsDataLoss) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(0, 1);
  ExpectDataLoss();
}

TEST_F(LyingLenderTest, LoanBeyondTheArenaIsDataLoss) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(kArenaBytes - kPageBytes);
  ExpectDataLoss();
}

TEST_F(LyingLenderTest, LoanFarBeyondTheArenaIsDataLoss) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(UINT64_MAX - 2 * kPageBytes + 1);
  ExpectDataLoss();
}

TEST_F(LyingLenderTest, LoanWithinAPageIsDataLoss) {
  Lend(MemoryOf(bytes_, kSealed).get());
  Loan(1);
  ExpectDataLoss();
}

TEST_F(LyingLenderTest, ArenaWithoutItsDescriptorIsDataLoss) {
  peer_.Write({.kind = Kind::kLend, .length = kArenaBytes});
  ExpectDataLoss();
}

// The connection does not take it.
TEST_F(LyingLenderTest, ArenaThatCouldBeCutShortEndsTheChannel) {
  Lend(MemoryOf(bytes_, F_SEAL_GROW | F_SEAL_FUTURE_WRITE).get());
  Loan(0);
  EXPECT_THAT(received_.Wait(), Not(IsOk()));
  EXPECT_TRUE(peer_.AwaitEnd());
}

TEST_F(LyingLenderTest, ArenaWhosePagesCouldBeTakenAwayIsCopied) {
  Lend(MemoryOf(bytes_, F_SEAL_SHRINK | F_SEAL_GROW).get());
  Loan(0);
  ExpectCopied("not sealed against writing");
}

TEST_F(LyingLenderTest, ArenaThatIsSmallerThanItSaysIsCopied) {
  Lend(MemoryOf(bytes_.substr(kPageBytes), kSealed).get());
  Loan(0);
  ExpectCopied(absl::StrCat("it has ", kArenaBytes - kPageBytes, " bytes"));
}

TEST_F(LyingLenderTest, ArenaWithAHoleIsCopied) {
  UniqueFd memory(memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(memory.get(), kArenaBytes), 0);
  // So that its blocks are as many as they should be.
  ASSERT_EQ(
      fallocate(memory.get(), FALLOC_FL_KEEP_SIZE, kArenaBytes, kArenaBytes),
      0);
  ASSERT_EQ(fcntl(memory.get(), F_ADD_SEALS, kSealed), 0);
  Lend(memory.get());
  Loan(0);
  ExpectCopied("not made");
}

TEST_F(LyingLenderTest, WhatIsNoMemfdEndsTheChannel) {
  Lend(UniqueFd(open("/dev/zero", O_RDWR)).get());
  Loan(0);
  EXPECT_THAT(received_.Wait(), Not(IsOk()));
  EXPECT_TRUE(peer_.AwaitEnd());
}

// Not the peer's fault.
TEST_F(LyingLenderTest, ArenaThatNoDescriptorIsLeftForIsCopied) {
  const UniqueFd memory = MemoryOf(bytes_, kSealed);
  const LocalFrameBytes lend =
      EncodeLocalFrame({.kind = Kind::kLend, .length = kArenaBytes});
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Whatever number is given back meanwhile.
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  WriteWithDescriptor(*wire_.dialed, memory.get(), lend.data(), lend.data(),
                      lend.size(), [](const tensorpipe::Error&) {});
  Loan(0);
  ExpectCopied("ulimit");
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(LyingLenderTest, SecondArenaInAPlaceTakesIt) {
  const std::string other = Pattern(2 * kArenaBytes, 3);
  Lend(MemoryOf(bytes_, kSealed).get());
  Lend(MemoryOf(other, kSealed).get(), 2 * kArenaBytes);
  Loan(kArenaBytes);
  ExpectLeased(kArenaBytes, other);
}

TEST_F(LyingLenderTest, ArenasWithoutEndLeaveNoMoreOpenThanHavePlaces) {
  const UniqueFd memory = MemoryOf(bytes_, kSealed);
  const int before = OpenDescriptors();
  for (int i = 0; i < 500; ++i) {
    Lend(memory.get(), kArenaBytes, i % kMostLentArenas);
  }
  Loan(0);
  ExpectLeased(0, bytes_);
  EXPECT_LE(OpenDescriptors(), before + static_cast<int>(kMostLentArenas));
}

// ---- who leases lies

class LyingLesseeTest : public ::testing::Test {
 protected:
  static constexpr size_t kLength = 5000;

  LyingLesseeTest() : side_(Lender(pool_)) {
    channel_ = side_.Open(wire_.accepted);
    peer_.Write({.kind = Kind::kHello, .reason = "no memory of mine"});
    EXPECT_EQ(peer_.Read()->kind, Kind::kHello);
    SendBlock(*channel_, block_, kLength, sent_);
    const auto lend = peer_.Read();
    EXPECT_EQ(lend->kind, Kind::kLend);
    arena_ = *peer_.TakeDescriptor();
    loan_ = *peer_.Read();
    EXPECT_EQ(loan_.kind, Kind::kLoan);
    EXPECT_EQ(loan_.arena, lend->arena);
    EXPECT_EQ(loan_.length, kLength);
  }
  ~LyingLesseeTest() override { channel_->close(); }

  void Leased(uint64_t number = 0, uint64_t length = kLength) {
    peer_.Write({.kind = Kind::kLeased, .number = number, .length = length});
  }
  void ExpectDataLoss() {
    EXPECT_THAT(sent_.Wait(), StatusIs(StatusCode::kDataLoss));
    EXPECT_TRUE(peer_.AwaitEnd());
  }

  const std::shared_ptr<BufferPool> pool_ = NewPool();
  const BufferPool::Block block_ = Filled(*pool_, kLength, 1);
  UnixConnections wire_;
  Side side_;
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
  RawPeer peer_{wire_.dialed};
  Outcome sent_;
  UniqueFd arena_;
  LocalFrame loan_;
};

TEST_F(LyingLesseeTest, HonestHandIsServed) {
  std::string got(kLength, '\0');
  EXPECT_EQ(pread(arena_.get(), got.data(), kLength, loan_.offset),
            static_cast<ssize_t>(kLength));
  EXPECT_EQ(got, Pattern(kLength, 1));
  Leased();
  EXPECT_THAT(sent_.Wait(), IsOk());
  ExpectCarried(side_.carried(), 1, "lease", "");
}

TEST_F(LyingLesseeTest, NobodyCanWriteToWhatWasLent) {
  const std::string path = absl::StrCat("/proc/self/fd/", arena_.get());
  const UniqueFd again(open(path.c_str(), O_RDWR));
  for (const int descriptor : {arena_.get(), again.get()}) {
    EXPECT_EQ(pwrite(descriptor, "x", 1, loan_.offset), -1);
    EXPECT_EQ(mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                   descriptor, 0),
              MAP_FAILED);
    EXPECT_EQ(ftruncate(descriptor, 0), -1);
    EXPECT_EQ(fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        0, kPageBytes),
              -1);
    EXPECT_EQ(errno, EPERM);
  }
  EXPECT_TRUE(BytesAt(block_.data, kLength) == Pattern(kLength, 1));
}

TEST_F(LyingLesseeTest, AnotherAnswerIsAsGood) {
  peer_.Write({.kind = Kind::kDone, .number = 0, .length = kLength});
  EXPECT_THAT(sent_.Wait(), IsOk());
  ExpectCarried(side_.carried(), 1, "vm", "does not take");
}

TEST_F(LyingLesseeTest, LeasingAnotherLengthIsDataLoss) {
  Leased(0, kLength - 1);
  ExpectDataLoss();
}

TEST_F(LyingLesseeTest, LeasingAnotherBufferIsDataLoss) {
  Leased(1);
  ExpectDataLoss();
}

TEST_F(LyingLesseeTest, LeasingTwiceIsDataLossAndNoCrash) {
  Leased();
  Leased();
  EXPECT_TRUE(peer_.AwaitEnd());
  sent_.Wait().IgnoreError();  // as the two come
}

TEST_F(LyingLesseeTest, LeasingWhatWasNotLentIsDataLoss) {
  const std::string plain = Pattern(kLength, 2);
  Outcome sent;
  Send(*channel_, plain, sent);
  EXPECT_EQ(peer_.Read()->kind, Kind::kOffer);
  Leased(1);
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kDataLoss));
  EXPECT_TRUE(peer_.AwaitEnd());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
