#ifndef TENSORFERRY_TRANSFER_LENDABLE_MEMORY_H_
#define TENSORFERRY_TRANSFER_LENDABLE_MEMORY_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/done.h"
#include "base/home_process.h"
#include "base/loop.h"
#include "pool/buffer_pool.h"

namespace tensorferry {

// Host memory for tensors that peers on this host may read where they are: what
// lies in it is handed over in a fraction of a millisecond, however large it
// is, and takes no memory at the receiver.
//
//   auto memory = LendableMemory::Create();
//   auto weights = memory->Empty({1024, 1024}, at::kFloat);
//   ... fill *weights ...
//   session->Send({.tensors = {*weights}}, {.lend = memory}, ...);
//   // and on the other side ReceiveOptions::leases
//
// A peer that was lent something reads what it likes of all that lies in the
// same arena (of 4 MiB at first, up to a GiB), and can write to none of it. The
// same tensor may be lent to any number of peers, and sent without being lent.
// One lane lends from the first 16 arenas that it meets (the first that are
// made have 8 GiB together); tensors in others are copied.
//
// Must not be written to while it is lent (IsLent, WhenReturned): the receiver
// would see it. A tensor that is dropped meanwhile goes when it is returned.
// Where a session ends before its peer has returned everything, the arena is
// not used for further tensors: the peer may go on to read it. It is given back
// to the system when its tensors are dropped and the peer has let go of it.
//
// Thread-safe. Tensors outlive it. In a child after fork they are a copy, and
// nothing can be lent.
class LendableMemory : public std::enable_shared_from_this<LendableMemory> {
 public:
  // Storages from here on lie in it; for smaller ones, and where there is no
  // room, libtorch's memory serves, which is copied when it is sent.
  static constexpr uint64_t kSmallestBlock = uint64_t{256} << 10;

  // Up to `bytes`; nullopt: of what PoolBudget::OfProcess has, together with
  // the memory that sessions receive into. What peers still have of arenas that
  // are gone here is not counted: it goes with their sessions, or, of one that
  // keeps it on purpose, with its process. An arena without tensors goes back
  // to the system after half a minute, by `clock`, which outlives this.
  static std::shared_ptr<LendableMemory> Create(
      std::optional<uint64_t> bytes = std::nullopt,
      Clock* clock = Clock::Real());
  ~LendableMemory();

  // A contiguous tensor of the CPU, not initialised. INVALID_ARGUMENT: a
  // negative size, or too many bytes. RESOURCE_EXHAUSTED: no memory.
  absl::StatusOr<at::Tensor> Empty(at::IntArrayRef shape,
                                   at::ScalarType dtype) const;

  // For what takes one of libtorch's allocators. Must outlive the tensors that
  // are made with it.
  c10::Allocator& allocator() const { return *allocator_; }

  // Whether the storage of `tensor` lies in it.
  bool Has(const at::Tensor& tensor) const;
  // Whether it may be being read, now or soon: from Send on until its `done`
  // runs or, of what a peer has leased, until all have let go of it.
  bool IsLent(const at::Tensor& tensor) const;
  // Runs `returned` once nobody may be reading it any more, this side's sends
  // included: within the call, or on any thread, where it must be short. What
  // it throws is dropped. UNAVAILABLE: a peer has not returned
  // it and never will, since the session is over: it must not be written to.
  void WhenReturned(const at::Tensor& tensor, DoneStatus returned) const;

  // ---- for links

  // Something is lent for as long as this lives.
  class Loan;
  // nullopt: it does not lie in whole pages of one block here.
  std::optional<BufferPool::Place> PlaceOf(const void* data,
                                           uint64_t nbytes) const;
  // Of what has a place. Null: it does not.
  std::unique_ptr<Loan> Lend(const void* data) const;

 private:
  class Allocator;
  struct Block;

  LendableMemory(std::shared_ptr<PoolBudget> budget, Clock* clock);
  void TrimLater(Loop* loop);
  c10::DataPtr Take(uint64_t nbytes) const;
  std::shared_ptr<Block> Find(const void* data) const;

  const HomeProcess home_;
  const std::shared_ptr<BufferPool> pool_;
  const std::unique_ptr<c10::Allocator> allocator_;
  mutable absl::Mutex mu_;
  // By address. Those that are about to go are still in it.
  mutable std::map<const void*, std::weak_ptr<Block>> blocks_
      ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Loop> loop_;  // for Trim; null: there was no thread left
};

class LendableMemory::Loan {
 public:
  Loan(std::shared_ptr<const LendableMemory> memory,
       std::shared_ptr<Block> block);
  ~Loan();
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

  // The peer will not return it.
  void Lose();

 private:
  const std::shared_ptr<const LendableMemory> memory_;
  const std::shared_ptr<Block> block_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LENDABLE_MEMORY_H_
