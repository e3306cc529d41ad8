#ifndef TENSORFERRY_POOL_BUFFER_POOL_H_
#define TENSORFERRY_POOL_BUFFER_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/home_process.h"
#include "pool/arena.h"
#include "pool/free_spans.h"
#include "pool/pool_budget.h"

namespace tensorferry {

unsigned MemoryNodeOfThread();  // getcpu(2); the thread may move at any time

struct BufferPoolOptions {
  std::shared_ptr<PoolBudget> budget;  // shared with other pools; required
  // What peers that are shown its arenas may do.
  Arena::Peer peer = Arena::Peer::kWrites;
  // The largest that several blocks share; a larger block has an arena of its
  // own, of just its pages. The first arenas are smaller (see Take).
  uint64_t arena_bytes = uint64_t{64} << 20;
  // An arena without blocks is kept warm for as long.
  absl::Duration idle = absl::Seconds(30);
  const Clock* clock = Clock::Real();
  // The memory node of the calling thread, where the system puts the pages that
  // it makes.
  std::function<unsigned()> memory_node = &MemoryNodeOfThread;
};

// Memory that is ready to be written to: its pages were made before, which
// costs more than the copy that fills them. To receive into there is one pool
// for each session: a peer that was given an arena can write anywhere in it.
//
// Any thread. Blocks outlive the pool. In a child after fork they can be read
// and written as before (see Arena); there, giving one back does nothing.
//
//   absl::StatusOr<BufferPool::Block> block = pool->Take(nbytes);
//   ... fill block->data, for as long as block->owner lives ...
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  struct Block {
    std::byte* data = nullptr;    // at a multiple of kPageBytes
    std::shared_ptr<void> owner;  // the last copy gives the block back
  };

  // Where bytes lie in an arena.
  struct Place {
    std::shared_ptr<const Arena> arena;
    uint64_t offset = 0;
  };

  static std::shared_ptr<BufferPool> Create(BufferPoolOptions options);
  ~BufferPool() = default;

  // A block of as many whole pages as `nbytes` (not 0) need. What it holds is
  // not specified. Of what is free, that of the thread's memory node comes
  // first. May block while an arena is made: 4 MiB at first, then as
  // much as the pool has already, up to arena_bytes. Arenas without blocks, all
  // of which are too small then, make room for it: a pool hardly holds more
  // than was in use at one time.
  // RESOURCE_EXHAUSTED: the budget, named, or the system's memory. Others:
  // those of Arena::Create. Plain memory does as well then.
  absl::StatusOr<Block> Take(uint64_t nbytes);

  // Whether Take(nbytes) has them without an arena to be made, if nobody else
  // takes them before.
  bool HasFree(uint64_t nbytes) const;

  // Where the peer may be let write (or read, with Arena::Peer::kReads) [data,
  // data + nbytes), which a fence can undo: in whole pages of one block, of
  // which the last may be cut by the block's end. nullopt: it lies otherwise,
  // in no block, or in an arena that is retired and that peers write to. Takes
  // well under a microsecond.
  std::optional<Place> PlaceOf(const void* data, uint64_t nbytes) const;

  // The peer may write to [data, data + nbytes) although it should not any
  // more: once this returns, what it writes reaches nobody here. The range,
  // which had a place, gets fresh, private pages, zeroed. The arena is retired:
  // no block is taken from it any more, the pages without one go back to the
  // system, and it goes with its last one. Takes milliseconds where it has many
  // such pages. Does nothing outside of arenas.
  // RESOURCE_EXHAUSTED: the system has no pages or mappings; the arena is
  // retired all the same.
  absl::Status Fence(void* data, uint64_t nbytes);

  // A peer may read what the arena of `data` has for as long as it likes: no
  // block is taken from it any more, so that the peer does not see what comes
  // next. Does nothing outside of arenas.
  void Retire(const void* data);

  // Gives arenas back to the system that have been without blocks for as long
  // as options.idle. Takes milliseconds where much is given back.
  void Trim();

  // Bytes of all arenas, idle ones included; of retired ones those of blocks.
  uint64_t held() const;

 private:
  using Blocks = std::map<uintptr_t, uint64_t>;  // address -> bytes
  // What an arena takes of the budget. Any thread.
  class Charge {
   public:
    explicit Charge(std::shared_ptr<PoolBudget> budget)
        : budget_(std::move(budget)) {}
    ~Charge() { budget_->GiveBack(bytes_); }

    absl::Status Take(uint64_t bytes);
    void GiveBack(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }

   private:
    const std::shared_ptr<PoolBudget> budget_;
    std::atomic<uint64_t> bytes_ = 0;
  };
  struct Shelf {
    std::shared_ptr<Arena> arena;
    std::shared_ptr<Charge> charge;
    unsigned memory_node = 0;
    Blocks blocks;
    bool retired = false;
    absl::Time idle_since;  // with no blocks
  };
  using Shelves = std::map<uintptr_t, Shelf>;  // by the arena's address
  // Those of a retired arena that no block has any more.
  struct UnusedPages {
    std::shared_ptr<Arena> arena;
    std::shared_ptr<Charge> charge;
    FreeSpans::Spans spans;
  };

  explicit BufferPool(BufferPoolOptions options)
      : options_(std::move(options)) {}
  // Holds a block; gives it back at the end.
  struct Loan {
    ~Loan();

    HomeProcess home;
    std::weak_ptr<BufferPool> pool;  // none: nothing was lent yet
    std::shared_ptr<Arena> arena;
    uintptr_t address = 0;
    uint64_t forks = 0;       // of this process, until then
    Blocks::node_type entry;  // until the shelf has it
  };

  // Of the thread's memory node, or else of any.
  std::optional<uint64_t> TakeSpan(uint64_t nbytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<Block> TakeFree(const std::shared_ptr<Loan>& loan,
                                uint64_t pages);
  absl::StatusOr<Shelf> MakeArena(uint64_t for_block);
  Block TakeFrom(Shelf made, std::shared_ptr<Loan> loan, uint64_t pages);
  Block Hand(std::shared_ptr<Loan> loan, Shelf& shelf, uintptr_t address)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void GiveBack(uintptr_t address, bool a_child_has_it);
  // What it returns has to go to Drop, after the lock.
  UnusedPages RetireArena(uintptr_t arena) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void Drop(const UnusedPages& pages);
  // Those idle since then or longer, until they are as many bytes.
  void DropIdle(absl::Time idle_since, uint64_t nbytes);
  // The shelf whose arena has all of the range; end(): none.
  Shelves::const_iterator Find(const void* data, uint64_t nbytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const BufferPoolOptions options_;
  mutable absl::Mutex mu_;
  Shelves shelves_ ABSL_GUARDED_BY(mu_);
  // By memory node; each that an arena is of has an entry.
  std::map<unsigned, FreeSpans> free_ ABSL_GUARDED_BY(mu_);
  uint64_t arenas_made_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_POOL_BUFFER_POOL_H_
