// The sender copies into the receiver's pool: honest ends, and liars at either.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "channel/local_channel.h"
#include "channel/peer_memory.h"
#include "pool/arena.h"
#include "pool/buffer_pool.h"
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

std::shared_ptr<BufferPool> NewPool() {
  return BufferPool::Create({.budget = std::make_shared<PoolBudget>(512 * kMiB),
                             .idle = absl::ZeroDuration()});
}

// Of a side that knows its peer; with a pool of its own if it has one.
LocalChannelOptions Options(std::shared_ptr<BufferPool> pool = nullptr) {
  LocalChannelOptions options;
  options.peer_of = ThisProcess;
  options.descriptors = HubDescriptors();
  options.pool = std::move(pool);
  options.pool_from_bytes = 1;
  return options;
}

// How many mappings this process has of arenas, its own and peers'.
int ArenasMapped() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += absl::StrContains(line, "memfd:tensorferry");
  }
  return count;
}

// Two channels that talk to each other over `Wire`.
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

void Receive(tensorpipe::channel::Channel& channel,
             const BufferPool::Block& into, size_t length, Outcome& outcome) {
  channel.recv(tensorpipe::CpuBuffer{into.data}, length, outcome.done());
}

// From near to far, into a block of `pool`.
template <class Pair>
void Transfer(Pair& pair, BufferPool& pool, size_t length, int line) {
  SCOPED_TRACE(line);
  const std::string bytes = Pattern(length, 1);
  const auto block = pool.Take(length);
  ASSERT_THAT(block, IsOk());
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, *block, length, received);
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_EQ(std::memcmp(block->data, bytes.data(), length), 0);
}

// One that has begun.
struct UnderWay {
  template <class Pair>
  UnderWay(Pair& pair, BufferPool& pool, size_t length)
      : bytes(Pattern(length, 1)), block(pool.Take(length)) {
    std::memset(block->data, 0, length);
    Send(*pair.near, bytes, sent);
    Receive(*pair.far, *block, length, received);
  }

  std::string arrived() const {
    return {reinterpret_cast<const char*>(block->data), bytes.size()};
  }

  const std::string bytes;
  const absl::StatusOr<BufferPool::Block> block;
  Outcome sent, received;
};

void ExpectCarried(const std::vector<Carried>& carried, size_t count,
                   const std::string& strategy, const std::string& not_pool) {
  testing::ExpectCarried(carried, count, strategy, &Carried::not_pool,
                         not_pool);
}

TEST(PoolChannelTest, SenderCopiesStraightIntoTheReceiversPool) {
  const auto pool = NewPool();
  Pair pair(Options(), Options(pool));
  for (const size_t size : {size_t{1}, size_t{4096}, kMiB + 1, 80 * kMiB}) {
    Transfer(pair, *pool, size, __LINE__);
  }
  ExpectCarried(pair.near_side.carried(), 4, "pool", "");
  ExpectCarried(pair.far_side.carried(), 4, "pool", "");
}

struct Reader : CopyReader {
  void Read(const std::byte* data, uint64_t nbytes) override {
    read.append(reinterpret_cast<const char*>(data), nbytes);
  }
  std::string read;
};

// With a reader for each copy of this way.
LocalChannelOptions ReadAlong(CopyWay which,
                              std::vector<std::shared_ptr<Reader>>& readers) {
  LocalChannelOptions options = Options();
  options.piece_bytes = 2 * kMiB;
  options.reader_of = [which, &readers](CopyWay way, const void*, uint64_t) {
    EXPECT_EQ(way, which);
    return readers.emplace_back(std::make_shared<Reader>());
  };
  return options;
}

TEST(PoolChannelTest, WhatIsCopiedIsReadAlong) {
  const auto pool = NewPool();
  std::vector<std::shared_ptr<Reader>> readers;
  const LocalChannelOptions options = ReadAlong(CopyWay::kToPool, readers);
  Pair pair(options, Options(pool));
  Transfer(pair, *pool, 2 * kMiB, __LINE__);  // on the copier
  Transfer(pair, *pool, 5000, __LINE__);      // on the loop
  Transfer(pair, *pool, 3 * kMiB, __LINE__);  // in two pieces
  ASSERT_EQ(readers.size(), 4u);
  EXPECT_TRUE(readers[0]->read == Pattern(2 * kMiB, 1));
  EXPECT_TRUE(readers[1]->read == Pattern(5000, 1));
  EXPECT_TRUE(readers[2]->read + readers[3]->read == Pattern(3 * kMiB, 1));
}

TEST(PoolChannelTest, WhatIsReadFromThePeerIsReadAlongToo) {
  std::vector<std::shared_ptr<Reader>> readers;
  Pair pair(Options(), ReadAlong(CopyWay::kFromPeer, readers));
  const std::string bytes = Pattern(3 * kMiB + 5, 1);  // in two pieces
  std::string into(bytes.size(), '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  testing::Receive(*pair.far, into, received);
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  ASSERT_EQ(readers.size(), 2u);
  EXPECT_TRUE(readers[0]->read + readers[1]->read == bytes);
}

// Reads along at the receiver.
struct Arriving : CopyReader {
  void Read(const std::byte* data, uint64_t nbytes) override {
    read.append(reinterpret_cast<const char*>(data), nbytes);
    if (!begun.HasBeenNotified()) begun.Notify();
  }
  std::string read;
  absl::Notification begun;
};

// For a receiver that reads along.
LocalChannelOptions TellHowFar() {
  LocalChannelOptions options = Options();
  options.is_read_at_once = true;
  return options;
}

LocalChannelOptions ReadArriving(std::shared_ptr<BufferPool> pool,
                                 std::shared_ptr<CopyReader> reader,
                                 Executor* copier = nullptr) {
  LocalChannelOptions options = Options(std::move(pool));
  options.copier = copier;
  options.reader_of = [reader = std::move(reader)](CopyWay way, const void*,
                                                   uint64_t) {
    EXPECT_EQ(way, CopyWay::kFromPeer);
    return reader;
  };
  return options;
}

TEST(PoolChannelTest, WhatThePeerPlacesIsReadAlong) {
  for (const size_t size : {size_t{5000}, 3 * kMiB / 4, 3 * kMiB + 5}) {
    const auto pool = NewPool();
    const auto reader = std::make_shared<Arriving>();
    Pair pair(TellHowFar(), ReadArriving(pool, reader));
    Transfer(pair, *pool, size, __LINE__);
    EXPECT_TRUE(reader->read == Pattern(size, 1)) << size;
    ExpectCarried(pair.far_side.carried(), 1, "pool", "");
  }
}

TEST(PoolChannelTest, ReceiverReadsAlongWhileTheSenderStillCopies) {
  const auto pool = NewPool();
  const auto reader = std::make_shared<Arriving>();
  HeldExecutor copier;
  LocalChannelOptions sender = TellHowFar();
  sender.copier = &copier;
  sender.piece_bytes = 2 * kMiB;
  Pair pair(sender, ReadArriving(pool, reader));
  UnderWay transfer(pair, *pool, 5 * kMiB);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // mapping the arena
  ASSERT_TRUE(copier.RunOne());  // the first piece
  reader->begun.WaitForNotification();
  ASSERT_TRUE(copier.RunOne());  // the second one
  ASSERT_TRUE(copier.RunOne());
  EXPECT_THAT(transfer.sent.Wait(), IsOk());
  EXPECT_THAT(transfer.received.Wait(), IsOk());
  EXPECT_TRUE(reader->read == transfer.bytes);
}

TEST(PoolChannelTest, WhileMuchIsToBeReceivedItIsReadAlongOnTheCopier) {
  const auto pool = NewPool();
  const auto reader = std::make_shared<Arriving>();
  HeldExecutor copier;
  Pair pair(TellHowFar(), ReadArriving(pool, reader, &copier));
  UnderWay first(pair, *pool, kMiB), second(pair, *pool, kMiB);
  ASSERT_TRUE(copier.RunOne());  // the proof
  EXPECT_THAT(first.sent.Wait(), IsOk());
  EXPECT_THAT(second.sent.Wait(), IsOk());
  ASSERT_TRUE(copier.AwaitOne());
  EXPECT_FALSE(reader->begun.HasBeenNotified());
  // Once the first has ended the second is little, and may be read on the loop.
  while (!second.received.ended()) {
    copier.RunAll();
    std::this_thread::yield();
  }
  EXPECT_THAT(first.received.Wait(), IsOk());
  EXPECT_THAT(second.received.Wait(), IsOk());
}

// It blocks until it may go on.
struct Slow : CopyReader {
  void Read(const std::byte*, uint64_t) override {
    if (!begun.HasBeenNotified()) begun.Notify();
    go_on.WaitForNotification();
    ended = true;
  }
  absl::Notification begun, go_on;
  std::atomic<bool> ended = false;
};

TEST(PoolChannelTest, CloseWaitsForWhatIsBeingReadAlong) {
  const auto pool = NewPool();
  const auto reader = std::make_shared<Slow>();
  ThreadPool copier(1);
  Pair pair(TellHowFar(), ReadArriving(pool, reader, &copier));
  UnderWay transfer(pair, *pool, 3 * kMiB);
  reader->begun.WaitForNotification();
  pair.far->close();
  EXPECT_FALSE(transfer.received.ended());
  reader->go_on.Notify();
  EXPECT_THAT(transfer.received.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_TRUE(reader->ended);
  // It may be through by then.
  transfer.sent.Wait().IgnoreError();
}

// What a copier has to do for a channel may be all that is left of it: its last
// task must not ask for another one.
TEST(PoolChannelTest, CloseLetsGoOfThePeersArenasThoughACopyIsUnderWay) {
  const auto pool = NewPool();
  const auto reader = std::make_shared<Slow>();
  HeldExecutor copier;
  LocalChannelOptions sender = Options();
  sender.copier = &copier;
  sender.copy_on_loop_bytes = 0;
  sender.reader_of = [reader](CopyWay, const void*, uint64_t) {
    return reader;
  };
  Pair pair(sender, Options(pool));
  UnderWay transfer(pair, *pool, kMiB);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // mapping the arena
  std::thread copying([&copier] { EXPECT_TRUE(copier.RunOne()); });
  reader->begun.WaitForNotification();
  pair.near->close();
  EXPECT_TRUE(copier.AwaitOne());
  reader->go_on.Notify();
  copying.join();
  EXPECT_THAT(transfer.sent.Wait(), StatusIs(StatusCode::kCancelled));
}

TEST(PoolChannelTest, WhatWaitsToBeReadAlongIsGivenUpByAClose) {
  const auto pool = NewPool();
  const auto reader = std::make_shared<Arriving>();
  HeldExecutor copier;
  LocalChannelOptions receiver = ReadArriving(pool, reader, &copier);
  int under_way = 0;
  receiver.on_copy = [&](bool begins) { under_way += begins ? 1 : -1; };
  Pair pair(TellHowFar(), receiver);
  UnderWay transfer(pair, *pool, 3 * kMiB);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.AwaitOne());
  EXPECT_THAT(transfer.sent.Wait(), IsOk());
  pair.far->close();
  EXPECT_THAT(transfer.received.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_EQ(under_way, 0);
  copier.RunAll();
  EXPECT_EQ(reader->read, "");
}

TEST(PoolChannelTest, MemoryOutsideOfThePoolIsNotWrittenByThePeer) {
  Pair pair(Options(), Options(NewPool()));
  const std::string bytes = Pattern(kMiB, 1);
  std::string into(kMiB, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  testing::Receive(*pair.far, into, received);
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_TRUE(into == bytes);
  ExpectCarried(pair.far_side.carried(), 1, "vm", "");
}

TEST(PoolChannelTest, SmallBuffersAreRead) {
  const auto pool = NewPool();
  LocalChannelOptions options = Options(pool);
  options.pool_from_bytes = 5000;
  Pair pair(Options(), options);
  Transfer(pair, *pool, 4999, __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "vm", "");
}

// One direction into the pool, the other not; some buffers in it, some not.
TEST(PoolChannelTest, ManyAreCarriedBothWaysInOrder) {
  const auto pool = NewPool();
  Pair pair(Options(), Options(pool));
  constexpr int kCount = 100;
  std::vector<std::string> out, back, in(kCount), home(kCount);
  std::vector<BufferPool::Block> blocks;
  for (int i = 0; i < kCount; ++i) {
    const size_t size = i % 7 == 0 ? 0 : (i % 5) * 300'000 + i;
    out.push_back(Pattern(size, i));
    back.push_back(Pattern(size / 2, i + 1000));
    in[i].resize(out[i].size());
    home[i].resize(back[i].size());
    blocks.push_back(*pool->Take(size + 1));
  }
  std::vector<Outcome> outcomes(4 * kCount);
  for (int i = 0; i < kCount; ++i) {
    Send(*pair.near, out[i], outcomes[i]);
    Send(*pair.far, back[i], outcomes[kCount + i]);
    testing::Receive(*pair.near, home[i], outcomes[2 * kCount + i]);
    if (i % 3 == 0) {
      testing::Receive(*pair.far, in[i], outcomes[3 * kCount + i]);
    } else {
      Receive(*pair.far, blocks[i], out[i].size(), outcomes[3 * kCount + i]);
    }
  }
  for (Outcome& outcome : outcomes) ASSERT_THAT(outcome.Wait(), IsOk());
  EXPECT_EQ(home, back);
  for (int i = 0; i < kCount; ++i) {
    const void* got =
        i % 3 == 0 ? static_cast<const void*>(in[i].data()) : blocks[i].data;
    EXPECT_EQ(std::memcmp(got, out[i].data(), out[i].size()), 0) << i;
  }
}

TEST(PoolChannelTest, DescriptorsAndMappingsAreGoneWithTheChannels) {
  const int before = OpenDescriptors();
  ASSERT_EQ(ArenasMapped(), 0);
  {
    const auto pool = NewPool();
    Pair pair(Options(), Options(pool));
    Transfer(pair, *pool, 80 * kMiB, __LINE__);
    Transfer(pair, *pool, 3 * kMiB, __LINE__);
    EXPECT_EQ(ArenasMapped(), 2) << "one, on both sides";
    pool->Trim();
  }
  // Sockets may be closed elsewhere, a little later.
  EXPECT_TRUE(Becomes([&] { return OpenDescriptors() <= before; }));
  EXPECT_EQ(ArenasMapped(), 0);
}

TEST(PoolChannelTest, ArenasThatAreGoneMakeRoomForOthers) {
  const auto pool =
      BufferPool::Create({.budget = std::make_shared<PoolBudget>(64 * kMiB),
                          .arena_bytes = kPageBytes,
                          .idle = absl::ZeroDuration()});
  Pair pair(Options(), Options(pool));
  for (size_t i = 0; i < 3 * kMostArenas; ++i) {
    Transfer(pair, *pool, 5 * kMiB, __LINE__);
    pool->Trim();
  }
  ExpectCarried(pair.far_side.carried(), 3 * kMostArenas, "pool", "");
}

TEST(PoolChannelTest, MemoryThatIsGivenBackIsFreeThoughThePeerHasItMapped) {
  const auto pool = NewPool();
  Pair pair(Options(), Options(pool));
  UniqueFd arena;
  {
    const auto block = pool->Take(5 * kMiB);
    arena =
        UniqueFd(dup(pool->PlaceOf(block->data, kMiB)->arena->descriptor()));
    const std::string bytes = Pattern(5 * kMiB, 1);
    Outcome sent, received;
    Send(*pair.near, bytes, sent);
    Receive(*pair.far, *block, bytes.size(), received);
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_THAT(sent.Wait(), IsOk());
  }
  struct stat file = {};
  ASSERT_EQ(fstat(arena.get(), &file), 0);
  EXPECT_GT(file.st_blocks, 0);
  pool->Trim();
  ASSERT_EQ(fstat(arena.get(), &file), 0);
  EXPECT_EQ(file.st_blocks, 0);
}

TEST(PoolChannelTest, SenderThatTakesNoDescriptorsIsRead) {
  const auto pool = NewPool();
  LocalChannelOptions sender = Options();
  sender.descriptors = {};
  Pair pair(sender, Options(pool));
  for (int i = 0; i < 3; ++i) Transfer(pair, *pool, kMiB, __LINE__);
  ExpectCarried(pair.far_side.carried(), 3, "vm", "takes no descriptors");
}

TEST(PoolChannelTest, WhereNoDescriptorMayGoItIsRead) {
  const auto pool = NewPool();
  LocalChannelOptions receiver = Options(pool);
  receiver.descriptors.write = [](Connection& connection, int, const void*,
                                  const void* without, size_t length,
                                  DescriptorPassing::Written written) {
    connection.write(without, length, std::move(written));
  };
  Pair pair(Options(), receiver);
  for (int i = 0; i < 3; ++i) Transfer(pair, *pool, kMiB, __LINE__);
  ExpectCarried(pair.far_side.carried(), 3, "vm", "does not let");
}

TEST(PoolChannelTest, ConnectionThatCarriesNoDescriptorsIsRead) {
  const auto pool = NewPool();
  Pair<UvConnections> pair(Options(), Options(pool));
  Transfer(pair, *pool, kMiB, __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "vm", "carries no descriptors");
}

TEST(PoolChannelTest, WithoutPoolAndMemoryItIsTheStream) {
  const auto pool = NewPool();
  LocalChannelOptions sender = Options(), receiver = Options(pool);
  sender.peer_arena_bytes = kPageBytes;
  receiver.peer_of = nullptr;
  Pair pair(sender, receiver);
  Transfer(pair, *pool, 5 * kMiB, __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "stream", "are mapped");
  ExpectCarried(pair.near_side.carried(), 1, "stream", "are mapped");
}

TEST(PoolChannelTest, PoolWorksWhereMemoryCannotBeRead) {
  const auto pool = NewPool();
  LocalChannelOptions receiver = Options(pool);
  receiver.peer_of = nullptr;
  Pair pair(Options(), receiver);
  Transfer(pair, *pool, 5 * kMiB, __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "pool", "");
}

TEST(PoolChannelTest, WhatIsCopiedOnTheLoopDoesNotWaitForTheCopier) {
  const auto pool = NewPool();
  HeldExecutor copier;
  LocalChannelOptions sender = Options();
  sender.copier = &copier;
  sender.piece_bytes = 4096;
  Pair pair(sender, Options(pool));
  UnderWay transfer(pair, *pool, 3 * 4096);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // mapping the arena
  EXPECT_THAT(transfer.sent.Wait(), IsOk());
  EXPECT_THAT(transfer.received.Wait(), IsOk());
  EXPECT_EQ(transfer.arrived(), transfer.bytes);
  ExpectCarried(pair.near_side.carried(), 1, "pool", "");
}

TEST(PoolChannelTest, MoreThanIsCopiedOnTheLoopWaitsForTheCopier) {
  const auto pool = NewPool();
  HeldExecutor copier;
  LocalChannelOptions sender = Options();
  sender.copier = &copier;
  Pair pair(sender, Options(pool));
  UnderWay transfer(pair, *pool, sender.copy_on_loop_bytes + 1);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // mapping the arena
  ASSERT_TRUE(copier.RunOne());  // the copy
  EXPECT_THAT(transfer.sent.Wait(), IsOk());
  EXPECT_THAT(transfer.received.Wait(), IsOk());
}

TEST(PoolChannelTest, CloseWithinACopyOnTheLoopEndsItOnce) {
  const auto pool = NewPool();
  LocalChannelOptions sender = Options();
  sender.piece_bytes = 4096;
  std::atomic<int> begun = 0, under_way = 0;
  tensorpipe::channel::Channel* closing = nullptr;
  sender.on_copy = [&](bool begins) {
    under_way += begins ? 1 : -1;
    if (begins && ++begun == 1) closing->close();
  };
  Pair pair(sender, Options(pool));
  closing = pair.near.get();
  UnderWay transfer(pair, *pool, 3 * 4096);
  EXPECT_THAT(transfer.sent.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(transfer.received.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(under_way, 0);
}

TEST(PoolChannelTest, SenderThatClosesReadsNothingMore) {
  const auto pool = NewPool();
  HeldExecutor copier;
  LocalChannelOptions sender = Options();
  sender.copier = &copier;
  sender.piece_bytes = 4096;
  sender.copy_on_loop_bytes = 0;
  Pair pair(sender, Options(pool));
  UnderWay transfer(pair, *pool, 3 * 4096);
  const std::string& bytes = transfer.bytes;
  const auto place = pool->PlaceOf(transfer.block->data, bytes.size());
  const UniqueFd arena(dup(place->arena->descriptor()));
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // mapping the arena
  ASSERT_TRUE(copier.RunOne());  // the first piece
  ASSERT_TRUE(copier.AwaitOne());
  pair.near->close();
  EXPECT_THAT(transfer.sent.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(transfer.received.Wait(), StatusIs(StatusCode::kUnavailable));
  copier.RunAll();
  EXPECT_EQ(transfer.arrived(), std::string(bytes.size(), '\0'))
      << "fresh pages";
  std::string written(bytes.size(), 'x');
  ASSERT_EQ(pread(arena.get(), written.data(), written.size(), place->offset),
            static_cast<ssize_t>(written.size()));
  EXPECT_EQ(written, bytes.substr(0, 4096) + std::string(2 * 4096, '\0'))
      << "the first piece, where nobody looks";
}

// ---- the sender lies

class LyingSenderTest : public ::testing::Test {
 protected:
  LyingSenderTest() : side_(Options(pool_)) {
    channel_ = side_.Open(wire_.accepted);
    peer_.Write({.kind = Kind::kHello,
                 .address = nonce_.address(),
                 .nonce = nonce_.value()});
    EXPECT_EQ(peer_.Read()->kind, Kind::kHello);
  }
  ~LyingSenderTest() override { channel_->close(); }

  // The receive of a block that is offered, up to its WANT; `arena_` is mapped.
  void AwaitWant(uint64_t number = 0) {
    std::memset(block_.data, 0, kLength);
    Receive(*channel_, block_, kLength, received_);
    peer_.Write({.kind = Kind::kOffer,
                 .number = number,
                 .length = kLength,
                 .address = reinterpret_cast<uint64_t>(bytes_.data())});
    const auto arena = peer_.Read();
    ASSERT_THAT(arena, IsOk());
    ASSERT_EQ(arena->kind, Kind::kArena);
    auto descriptor = peer_.TakeDescriptor();
    ASSERT_TRUE(descriptor.has_value());
    auto mapped = PeerArena::Map(*std::move(descriptor), arena->length);
    ASSERT_THAT(mapped, IsOk());
    arena_ = *std::move(mapped);
    const auto want = peer_.Read();
    ASSERT_THAT(want, IsOk());
    ASSERT_EQ(want->kind, Kind::kWant);
    ASSERT_EQ(want->number, number);
    ASSERT_EQ(want->length, kLength);
    to_ = arena_->data() + want->address;
  }

  std::string Block() {
    return std::string(reinterpret_cast<char*>(block_.data), kLength);
  }

  static constexpr size_t kLength = 5000;
  const std::string bytes_ = Pattern(kLength, 1);
  const std::shared_ptr<BufferPool> pool_ = NewPool();
  BufferPool::Block block_ = *pool_->Take(kLength);
  UnixConnections wire_;
  PlacedNonce nonce_;
  Side side_;
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
  RawPeer peer_{wire_.dialed};
  Outcome received_;
  std::unique_ptr<PeerArena> arena_;
  std::byte* to_ = nullptr;
};

TEST_F(LyingSenderTest, HonestHandIsServed) {
  AwaitWant();
  std::memcpy(to_, bytes_.data(), kLength);
  peer_.Write({.kind = Kind::kPlaced, .number = 0, .length = kLength});
  EXPECT_THAT(received_.Wait(), IsOk());
  EXPECT_EQ(Block(), bytes_);
  EXPECT_EQ(side_.carried().at(0).strategy, "pool");
}

TEST_F(LyingSenderTest, WhatItWritesAfterTheCloseReachesNobody) {
  AwaitWant();
  std::memcpy(to_, bytes_.data(), kLength / 2);
  channel_->close();
  // It has not said that it stopped, and nobody waits for that.
  EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kCancelled));
  const std::string at_callback = Block();
  std::memcpy(to_, bytes_.data(), kLength);
  EXPECT_EQ(Block(), at_callback);
  EXPECT_FALSE(pool_->PlaceOf(block_.data, kLength).has_value()) << "retired";
}

TEST_F(LyingSenderTest, OneThatDiesIsUnavailable) {
  AwaitWant();
  wire_.dialed->close();
  EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kUnavailable));
  std::memcpy(to_, bytes_.data(), kLength);
  EXPECT_EQ(Block(), std::string(kLength, '\0'));
}

TEST_F(LyingSenderTest, PlacingWhatWasNotWantedIsDataLoss) {
  AwaitWant();
  peer_.Write({.kind = Kind::kPlaced, .number = 1, .length = kLength});
  EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kDataLoss));
  EXPECT_TRUE(peer_.AwaitEnd());
}

TEST_F(LyingSenderTest, PlacingAnotherLengthIsDataLoss) {
  AwaitWant();
  peer_.Write({.kind = Kind::kPlaced, .number = 0, .length = kLength - 1});
  EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kDataLoss));
}

TEST_F(LyingSenderTest, CannotAfterPlacedIsDataLoss) {
  AwaitWant();
  peer_.Write({.kind = Kind::kPlaced, .number = 0, .length = kLength});
  peer_.Write({.kind = Kind::kCannot,
               .number = 0,
               .length = kLength,
               .reason = "changed my mind"});
  EXPECT_THAT(received_.Wait(), IsOk());
  EXPECT_TRUE(peer_.AwaitEnd());
}

TEST_F(LyingSenderTest, OneThatCannotIsReadAndNotAskedAgainForThatArena) {
  AwaitWant();
  peer_.Write({.kind = Kind::kCannot,
               .number = 0,
               .length = kLength,
               .reason = "not today"});
  EXPECT_THAT(received_.Wait(), IsOk());
  EXPECT_EQ(Block(), bytes_);
  EXPECT_EQ(peer_.Read()->kind, Kind::kDone);
  Outcome again;
  Receive(*channel_, block_, kLength, again);
  peer_.Write({.kind = Kind::kOffer,
               .number = 1,
               .length = kLength,
               .address = reinterpret_cast<uint64_t>(bytes_.data())});
  EXPECT_EQ(peer_.Read()->kind, Kind::kDone);
  EXPECT_THAT(again.Wait(), IsOk());
  ExpectCarried(side_.carried(), 2, "vm", "not today");
}

// What it lacked may have passed.
TEST_F(LyingSenderTest, OneThatCannotIsAskedForTheNextArena) {
  AwaitWant();
  peer_.Write({.kind = Kind::kCannot,
               .number = 0,
               .length = kLength,
               .reason = "not just now"});
  EXPECT_THAT(received_.Wait(), IsOk());
  EXPECT_EQ(peer_.Read()->kind, Kind::kDone);
  constexpr size_t kMore = 8 * kMiB;  // has an arena of its own
  const auto block = pool_->Take(kMore);
  ASSERT_THAT(block, IsOk());
  Outcome again;
  Receive(*channel_, *block, kMore, again);
  peer_.Write({.kind = Kind::kOffer,
               .number = 1,
               .length = kMore,
               .address = reinterpret_cast<uint64_t>(bytes_.data())});
  EXPECT_EQ(peer_.Read()->kind, Kind::kArena);
  EXPECT_TRUE(peer_.TakeDescriptor().has_value());
  EXPECT_EQ(peer_.Read()->kind, Kind::kWant);
  peer_.Write({.kind = Kind::kPlaced, .number = 1, .length = kMore});
  EXPECT_THAT(again.Wait(), IsOk());
  EXPECT_EQ(side_.carried().at(1).strategy, "pool");
}

// By a fence of another buffer's, before its turn comes.
TEST_F(LyingSenderTest, BufferWhoseArenaIsRetiredMeanwhileIsRead) {
  Receive(*channel_, block_, kLength, received_);
  side_.Flush();
  EXPECT_THAT(pool_->Fence(block_.data, kLength), IsOk());
  peer_.Write({.kind = Kind::kOffer,
               .number = 0,
               .length = kLength,
               .address = reinterpret_cast<uint64_t>(bytes_.data())});
  EXPECT_THAT(received_.Wait(), IsOk());
  EXPECT_EQ(Block(), bytes_);
  EXPECT_EQ(peer_.Read()->kind, Kind::kDone);
  ExpectCarried(side_.carried(), 1, "vm", "retired");
}

TEST_F(LyingSenderTest, BytesInTheStreamForAWantedBufferAreDataLoss) {
  AwaitWant();
  peer_.Write({.kind = Kind::kData, .number = 0, .length = kLength});
  EXPECT_THAT(received_.Wait(), StatusIs(StatusCode::kDataLoss));
}

// ---- the receiver lies

UniqueFd MemoryOf(uint64_t nbytes, int seals, bool made = true) {
  UniqueFd memory(memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(memory.get(), nbytes), 0);
  if (made) {
    EXPECT_EQ(fallocate(memory.get(), 0, 0, nbytes), 0);
  }
  EXPECT_EQ(fcntl(memory.get(), F_ADD_SEALS, seals), 0);
  return memory;
}

class LyingReceiverTest : public ::testing::Test {
 protected:
  static constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW;
  static constexpr uint64_t kArenaBytes = 16 * kPageBytes;

  LyingReceiverTest() : side_(SenderOptions()) {
    channel_ = side_.Open(wire_.accepted);
    peer_.Write({.kind = Kind::kHello, .reason = "no memory of mine"});
    EXPECT_EQ(peer_.Read()->kind, Kind::kHello);
    Send(*channel_, bytes_, sent_);
    const auto offer = peer_.Read();
    EXPECT_EQ(offer->kind, Kind::kOffer);
    EXPECT_EQ(offer->number, 0u);
  }
  ~LyingReceiverTest() override { channel_->close(); }

  static LocalChannelOptions SenderOptions() {
    LocalChannelOptions options = Options();
    options.peer_arena_bytes = 4 * kArenaBytes;
    return options;
  }

  void HandOver(int descriptor, uint64_t nbytes = kArenaBytes,
                uint8_t arena = 0) {
    peer_.WriteWith(descriptor,
                    {.kind = Kind::kArena, .arena = arena, .length = nbytes});
  }
  void Want(uint64_t offset, uint8_t arena = 0, uint64_t number = 0,
            uint64_t length = kLength) {
    peer_.Write({.kind = Kind::kWant,
                 .arena = arena,
                 .number = number,
                 .length = length,
                 .address = offset});
  }

  void ExpectPlacedIn(const UniqueFd& memory, uint64_t offset) {
    const auto placed = peer_.Read();
    ASSERT_THAT(placed, IsOk());
    EXPECT_EQ(placed->kind, Kind::kPlaced) << placed->reason;
    std::string got(kLength, '\0');
    EXPECT_EQ(pread(memory.get(), got.data(), kLength, offset),
              static_cast<ssize_t>(kLength));
    EXPECT_EQ(got, bytes_);
    EXPECT_THAT(sent_.Wait(), IsOk());
  }

  // The sender says CANNOT, and the buffer goes by vm.
  void ExpectCannot(const std::string& why) {
    const auto cannot = peer_.Read();
    ASSERT_THAT(cannot, IsOk());
    EXPECT_EQ(cannot->kind, Kind::kCannot);
    EXPECT_THAT(cannot->reason, HasSubstr(why));
    EXPECT_FALSE(sent_.ended());
    peer_.Write({.kind = Kind::kDone, .number = 0, .length = kLength});
    EXPECT_THAT(sent_.Wait(), IsOk());
    ExpectCarried(side_.carried(), 1, "vm", why);
  }

  void ExpectDataLoss() {
    EXPECT_THAT(sent_.Wait(), StatusIs(StatusCode::kDataLoss));
    EXPECT_TRUE(peer_.AwaitEnd());
  }

  static constexpr size_t kLength = 5000;
  const std::string bytes_ = Pattern(kLength, 1);
  UnixConnections wire_;
  Side side_;
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
  RawPeer peer_{wire_.dialed};
  Outcome sent_;
};

TEST_F(LyingReceiverTest, HonestHandIsServed) {
  const UniqueFd memory = MemoryOf(kArenaBytes, kSealed);
  HandOver(memory.get(), kArenaBytes, 63);
  Want(7, 63);
  ExpectPlacedIn(memory, 7);
}

TEST_F(LyingReceiverTest, ArenaThatWasNotHandedOverIsDataLoss) {
  Want(0);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, PlaceBeyondTheArenaIsDataLoss) {
  HandOver(MemoryOf(kArenaBytes, kSealed).get());
  Want(kArenaBytes - kLength + 1);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, PlaceFarBeyondTheArenaIsDataLoss) {
  HandOver(MemoryOf(kArenaBytes, kSealed).get());
  Want(UINT64_MAX - kLength);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, AnotherLengthIsDataLoss) {
  HandOver(MemoryOf(kArenaBytes, kSealed).get());
  Want(0, 0, 0, kLength + 1);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, AnotherBufferIsDataLoss) {
  HandOver(MemoryOf(kArenaBytes, kSealed).get());
  Want(0, 0, 1);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, WantingTwiceIsDataLossAndNoCrash) {
  HandOver(MemoryOf(kArenaBytes, kSealed).get());
  Want(0);
  Want(0);
  EXPECT_TRUE(peer_.AwaitEnd());
  sent_.Wait().IgnoreError();  // as the two come
}

TEST_F(LyingReceiverTest, ArenaWithoutItsDescriptorIsDataLoss) {
  peer_.Write({.kind = Kind::kArena, .length = kArenaBytes});
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, WantingAgainWhatCannotBeIsDataLoss) {
  HandOver(MemoryOf(kPageBytes, kSealed).get());
  Want(0);
  EXPECT_EQ(peer_.Read()->kind, Kind::kCannot);
  Want(0);
  ExpectDataLoss();
}

TEST_F(LyingReceiverTest, ArenaThatCouldShrinkIsDataLoss) {
  HandOver(MemoryOf(kArenaBytes, F_SEAL_GROW).get());
  Want(0);
  EXPECT_THAT(sent_.Wait(), Not(IsOk()));
  EXPECT_TRUE(peer_.AwaitEnd());
}

// Not the peer's fault.
TEST_F(LyingReceiverTest, ArenaThatNoDescriptorIsLeftForIsNotWritten) {
  const UniqueFd memory = MemoryOf(kArenaBytes, kSealed);
  const LocalFrameBytes arena =
      EncodeLocalFrame({.kind = Kind::kArena, .length = kArenaBytes});
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Whatever number is given back meanwhile.
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  WriteWithDescriptor(*wire_.dialed, memory.get(), arena.data(), arena.data(),
                      arena.size(), [](const tensorpipe::Error&) {});
  Want(0);
  ExpectCannot("ulimit");
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(LyingReceiverTest, ArenaThatIsSmallerThanItSaysIsNotWritten) {
  HandOver(MemoryOf(kPageBytes, kSealed).get());
  Want(0);
  ExpectCannot("it has 4096 bytes");
}

TEST_F(LyingReceiverTest, ArenaWithoutPagesIsNotWritten) {
  HandOver(MemoryOf(kArenaBytes, kSealed, /*made=*/false).get());
  Want(0);
  ExpectCannot("not made");
}

TEST_F(LyingReceiverTest, ArenaThatMayNotBeWrittenIsNot) {
  HandOver(MemoryOf(kArenaBytes, kSealed | F_SEAL_WRITE).get());
  Want(0);
  ExpectCannot("refused");
}

TEST_F(LyingReceiverTest, MoreBytesThanAreMappedAtATimeAreNot) {
  const UniqueFd memory = MemoryOf(5 * kArenaBytes, kSealed);
  HandOver(memory.get(), 5 * kArenaBytes);
  Want(0);
  ExpectCannot("are mapped");
}

TEST_F(LyingReceiverTest, SecondArenaInAPlaceTakesIt) {
  const UniqueFd first = MemoryOf(kArenaBytes, kSealed),
                 second = MemoryOf(2 * kArenaBytes, kSealed);
  HandOver(first.get());
  HandOver(second.get(), 2 * kArenaBytes);
  Want(kArenaBytes);
  ExpectPlacedIn(second, kArenaBytes);
}

TEST_F(LyingReceiverTest, ArenasWithoutEndLeaveNothingOpen) {
  const UniqueFd memory = MemoryOf(kArenaBytes, kSealed);
  const int before = OpenDescriptors();
  for (int i = 0; i < 500; ++i) {
    HandOver(memory.get(), kArenaBytes, i % kMostArenas);
  }
  Want(0);
  ExpectPlacedIn(memory, 0);
  EXPECT_TRUE(Becomes([&] { return OpenDescriptors() <= before; }))
      << "closed once it is mapped";
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
