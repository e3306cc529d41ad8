#ifndef TENSORFERRY_POOL_ARENA_H_
#define TENSORFERRY_POOL_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/home_process.h"
#include "base/unique_fd.h"

namespace tensorferry {

// Bytes come and go in pages of this size.
inline constexpr uint64_t kPageBytes = 4096;

// An address range that ends with its object. Page-aligned, before an
// inaccessible page.
class Mapping {
 public:
  // Begins at a multiple of 2 MiB, so that huge pages fit. RESOURCE_EXHAUSTED:
  // no room, or too many mappings.
  static absl::StatusOr<Mapping> Of(int descriptor, uint64_t nbytes);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();

  std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  Mapping(std::byte* reserved, uint64_t reserved_bytes);

  HomeProcess home_;  // in a child it stays
  std::byte* reserved_;
  uint64_t reserved_bytes_;
  std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;
};

// Memory that a peer can be given: a memfd, mapped, with all its pages made,
// huge ones where the system gives them. It is sealed at its size, so that
// nobody who has the descriptor can cut it short under us.
// Immutable; any thread.
//
// A child after fork reads what is in it, and what it writes there is its own.
// What the parent or a peer writes later may be seen in the child, and where
// the parent has a fence (BufferPool::Fence) the child has what the peer
// writes.
class Arena {
 public:
  // What a peer that has the descriptor may do: write there, too, or read and
  // nothing else, for which it is sealed.
  enum class Peer { kWrites, kReads };

  // `nbytes` is a multiple of kPageBytes and not 0. Blocks while the system
  // makes the pages, 0.2 s/GiB; on a machine with several memory nodes they are
  // those of the calling thread's.
  // RESOURCE_EXHAUSTED: memory, descriptors or mappings.
  // FAILED_PRECONDITION: the system has no memfd with seals.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(
      uint64_t number, uint64_t nbytes, Peer peer = Peer::kWrites);
  // The pages go back to the system though a peer has them mapped, unless this
  // process has forked since Create: a child may read them. With Peer::kReads
  // they stay for as long as the peer has them.
  ~Arena();

  // The same for whole pages that nobody here reads any more; says whether.
  // Never with Peer::kReads.
  bool GiveBackPages(uint64_t offset, uint64_t nbytes) const;

  // How often this process has forked since its first arena. What lay in one
  // then is still read by the child.
  static uint64_t Forks();

  uint64_t number() const { return number_; }  // unique within its pool
  std::byte* data() const { return mapping_.data(); }
  uint64_t nbytes() const { return mapping_.nbytes(); }
  int descriptor() const { return descriptor_.get(); }  // for the peer

 private:
  Arena(uint64_t number, UniqueFd descriptor, Mapping mapping);

  const uint64_t number_;
  const uint64_t forks_ = Forks();  // before it
  const UniqueFd descriptor_;
  const Mapping mapping_;
};

// A peer's arena, to be written to. Immutable; any thread. The peer reads and
// writes it at any time, so nothing that is read here can be relied on. A child
// after fork does not have it.
class PeerArena {
 public:
  // Of all peers of this process at a time: each takes up to three of the
  // mappings that a process may have (vm.max_map_count, 65,530 as a rule).
  static constexpr size_t kMost = 8192;

  // The first write to each page, or huge page, takes a fault. A peer may take
  // pages away at any time (a hole); writing makes them again, which can end
  // this process where memory is counted strictly (SECURITY.md).
  // INVALID_ARGUMENT: what was sent is not memory of `nbytes` that is there,
  // sealed against shrinking and growing, and may be written.
  // RESOURCE_EXHAUSTED: no room, too many mappings, or kMost.
  static absl::StatusOr<std::unique_ptr<PeerArena>> Map(UniqueFd descriptor,
                                                        uint64_t nbytes);
  ~PeerArena();

  std::byte* data() const { return mapping_.data(); }
  uint64_t nbytes() const { return mapping_.nbytes(); }

 private:
  explicit PeerArena(Mapping mapping);

  const Mapping mapping_;
};

// A peer's arena, to be read (Arena::Peer::kReads). Immutable; any thread. The
// peer writes it at any time. A child after fork that has it sees that too.
class LentArena {
 public:
  // INVALID_ARGUMENT: what was sent is not memory of `nbytes` that is there,
  // sealed against shrinking, growing and writing: what could be taken away
  // while it is read would be a SIGBUS. RESOURCE_EXHAUSTED: descriptors. Takes
  // milliseconds where much of it is of small pages.
  static absl::StatusOr<std::shared_ptr<const LentArena>> Take(
      UniqueFd descriptor, uint64_t nbytes);

  // Puts the bytes from `offset` on in the place of the pages that [data, data
  // + nbytes) lies in. A page that is written to becomes this process's own,
  // and the peer never sees that. `data` and `offset` begin a page.
  // INVALID_ARGUMENT: not in the arena. RESOURCE_EXHAUSTED: too many mappings.
  absl::Status MapAt(std::byte* data, uint64_t nbytes, uint64_t offset) const;

  uint64_t nbytes() const { return nbytes_; }

 private:
  LentArena(UniqueFd descriptor, uint64_t nbytes)
      : descriptor_(std::move(descriptor)), nbytes_(nbytes) {}

  const UniqueFd descriptor_;
  const uint64_t nbytes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_POOL_ARENA_H_
