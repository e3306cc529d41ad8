#include "pool/buffer_pool.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/descriptor_budget.h"
#include "base/exception_status.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr uint64_t kFirstArenaBytes = uint64_t{4} << 20;

uint64_t PageDown(uint64_t at) { return at & ~(kPageBytes - 1); }
uint64_t PageUp(uint64_t at) { return PageDown(at + kPageBytes - 1); }

uintptr_t AddressOf(const void* data) {
  return reinterpret_cast<uintptr_t>(data);
}

// Puts fresh pages in the place of those that begin with `data`, in one step
// for who looks on.
absl::Status ReplacePages(void* data, uint64_t nbytes) {
  const uint64_t length = PageUp(nbytes);
  void* const fresh = mmap(nullptr, length, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh != MAP_FAILED &&
      mremap(fresh, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, data) !=
          MAP_FAILED) {
    return absl::OkStatus();
  }
  const int error = errno;
  if (fresh != MAP_FAILED) munmap(fresh, length);
  return absl::ResourceExhaustedError(
      absl::StrCat("fresh pages for ", nbytes,
                   " bytes of an arena: ", std::strerror(error)));
}

}  // namespace

unsigned MemoryNodeOfThread() {
  unsigned node = 0;
  getcpu(nullptr, &node);
  return node;
}

std::shared_ptr<BufferPool> BufferPool::Create(BufferPoolOptions options) {
  return std::shared_ptr<BufferPool>(new BufferPool(std::move(options)));
}

absl::StatusOr<BufferPool::Block> BufferPool::Take(uint64_t nbytes) {
  if (nbytes == 0 || nbytes > PageDown(UINT64_MAX)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a block of ", nbytes, " bytes"));
  }
  Blocks entry;
  entry.emplace(0, nbytes);
  auto loan = std::make_shared<Loan>();
  loan->entry = entry.extract(entry.begin());
  const uint64_t pages = PageUp(nbytes);
  if (std::optional<Block> block = TakeFree(loan, pages)) {
    return *std::move(block);
  }
  FERRY_ASSIGN_OR_RETURN(Shelf made, MakeArena(pages));
  return TakeFrom(std::move(made), std::move(loan), pages);
}

bool BufferPool::HasFree(uint64_t nbytes) const {
  absl::MutexLock lock(&mu_);
  return std::any_of(free_.begin(), free_.end(), [&](const auto& spans) {
    return spans.second.Has(PageUp(nbytes));
  });
}

std::optional<uint64_t> BufferPool::TakeSpan(uint64_t nbytes) {
  const auto here = free_.find(options_.memory_node());
  if (here != free_.end()) {
    if (auto address = here->second.Take(nbytes)) return address;
  }
  for (auto& [node, spans] : free_) {
    if (auto address = spans.Take(nbytes)) return address;
  }
  return std::nullopt;
}

std::optional<BufferPool::Block> BufferPool::TakeFree(
    const std::shared_ptr<Loan>& loan, uint64_t pages) {
  absl::MutexLock lock(&mu_);
  const std::optional<uint64_t> address = TakeSpan(pages);
  if (!address) return std::nullopt;
  return Hand(loan, std::prev(shelves_.upper_bound(*address))->second,
              *address);
}

// Not under the lock: others are served while the pages are made.
absl::StatusOr<BufferPool::Shelf> BufferPool::MakeArena(uint64_t for_block) {
  uint64_t number;
  {
    absl::MutexLock lock(&mu_);
    number = ++arenas_made_;
  }
  uint64_t nbytes = std::max(
      for_block,
      std::min(options_.arena_bytes, std::max(held(), kFirstArenaBytes)));
  DropIdle(absl::InfiniteFuture(), nbytes);
  auto charge = std::make_shared<Charge>(options_.budget);
  if (!charge->Take(nbytes).ok()) {
    nbytes = for_block;
    FERRY_RETURN_IF_ERROR(charge->Take(nbytes));
  }
  // Counting descriptors may take long: not where there is no memory anyway.
  FERRY_ASSIGN_OR_RETURN(
      const DescriptorBudget::Claim claim,
      DescriptorBudget::OfProcess().Take(1, "an arena of the pool"));
  Shelf made;
  made.memory_node = options_.memory_node();
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena,
                         Arena::Create(number, nbytes, options_.peer));
  // Blocks hold the arena, and it its charge.
  auto give_back = [charge](Arena* made) mutable {
    delete made;
    charge = nullptr;
  };
  made.arena = std::shared_ptr<Arena>(arena.release(), std::move(give_back));
  made.charge = std::move(charge);
  return made;
}

BufferPool::Block BufferPool::TakeFrom(Shelf made, std::shared_ptr<Loan> loan,
                                       uint64_t pages) {
  const uintptr_t address = AddressOf(made.arena->data());
  const uint64_t size = made.arena->nbytes();
  absl::MutexLock lock(&mu_);
  FreeSpans& free = free_[made.memory_node];
  Shelf& shelf = shelves_[address] = std::move(made);
  if (size > pages) free.Add(address + pages, size - pages);
  return Hand(std::move(loan), shelf, address);
}

// Takes no memory: what was taken for the block is in the loan already.
BufferPool::Block BufferPool::Hand(std::shared_ptr<Loan> loan, Shelf& shelf,
                                   uintptr_t address) {
  loan->entry.key() = address;
  shelf.blocks.insert(std::move(loan->entry));
  loan->pool = weak_from_this();
  loan->arena = shelf.arena;
  loan->address = address;
  loan->forks = Arena::Forks();
  return {reinterpret_cast<std::byte*>(address), std::move(loan)};
}

BufferPool::Loan::~Loan() {
  if (!home.IsThis()) return;
  if (auto held = pool.lock()) {
    held->GiveBack(address, forks != Arena::Forks());
  }
}

void BufferPool::GiveBack(uintptr_t address, bool a_child_has_it) {
  UnusedPages unused;
  {
    absl::MutexLock lock(&mu_);
    auto found = std::prev(shelves_.upper_bound(address));
    Shelf& shelf = found->second;
    auto block = shelf.blocks.extract(address);
    block.mapped() = PageUp(block.mapped());
    // The next message must not appear in what the child took with it.
    if (shelf.retired || a_child_has_it) {
      unused = RetireArena(found->first);
      unused.spans.insert(std::move(block));
    } else if (!CatchExceptions("a pool", [&] {
                  mu_.AssertHeld();
                  free_.at(shelf.memory_node).Add(address, block.mapped());
                }).ok()) {
      unused = RetireArena(found->first);  // no memory to remember it by
    }
    if (shelf.blocks.empty()) {
      shelf.idle_since = options_.clock->Now();
      unused = {};
      // It goes with the block's own hold on it.
      if (shelf.retired) shelves_.erase(found);
    }
  }
  Drop(unused);
}

BufferPool::UnusedPages BufferPool::RetireArena(uintptr_t arena) {
  Shelf& shelf = shelves_.at(arena);
  shelf.retired = true;
  return {shelf.arena, shelf.charge,
          free_.at(shelf.memory_node).Remove(arena, shelf.arena->nbytes())};
}

void BufferPool::Drop(const UnusedPages& pages) {
  for (const auto& [begin, nbytes] : pages.spans) {
    void* const data = reinterpret_cast<void*>(begin);
    const uint64_t offset = begin - AddressOf(pages.arena->data());
    if (!pages.arena->GiveBackPages(offset, nbytes)) continue;
    madvise(data, nbytes, MADV_DONTNEED);  // what a fence put there
    pages.charge->GiveBack(nbytes);
  }
}

absl::Status BufferPool::Charge::Take(uint64_t bytes) {
  FERRY_RETURN_IF_ERROR(budget_->Take(bytes));
  bytes_.fetch_add(bytes);
  return absl::OkStatus();
}

void BufferPool::Charge::GiveBack(uint64_t bytes) {
  bytes_.fetch_sub(bytes);
  budget_->GiveBack(bytes);
}

std::optional<BufferPool::Place> BufferPool::PlaceOf(const void* data,
                                                     uint64_t nbytes) const {
  const uintptr_t begin = AddressOf(data);
  absl::MutexLock lock(&mu_);
  const auto shelf = Find(data, nbytes);
  if (shelf == shelves_.end()) return std::nullopt;
  if (shelf->second.retired && options_.peer == Arena::Peer::kWrites) {
    return std::nullopt;
  }
  const Blocks& blocks = shelf->second.blocks;
  auto block = blocks.upper_bound(begin);
  if (block == blocks.begin()) return std::nullopt;
  --block;
  const uintptr_t end = begin + nbytes,
                  block_end = block->first + block->second;
  const bool in_whole_pages =
      begin % kPageBytes == 0 && (end % kPageBytes == 0 || end == block_end);
  if (end > block_end || !in_whole_pages) return std::nullopt;
  return Place{shelf->second.arena, begin - shelf->first};
}

absl::Status BufferPool::Fence(void* data, uint64_t nbytes) {
  UnusedPages unused;  // and has the arena as long as this lasts
  {
    absl::MutexLock lock(&mu_);
    const auto found = Find(data, nbytes);
    if (found == shelves_.end() || nbytes == 0) return absl::OkStatus();
    unused = RetireArena(found->first);
  }
  absl::Status replaced = ReplacePages(data, nbytes);
  Drop(unused);
  return replaced;
}

void BufferPool::Retire(const void* data) {
  UnusedPages unused;
  {
    absl::MutexLock lock(&mu_);
    const auto found = Find(data, 1);
    if (found == shelves_.end()) return;
    unused = RetireArena(found->first);
  }
  Drop(unused);
}

void BufferPool::Trim() {
  DropIdle(options_.clock->Now() - options_.idle, UINT64_MAX);
}

void BufferPool::DropIdle(absl::Time idle_since, uint64_t nbytes) {
  std::vector<std::shared_ptr<Arena>> dropped;  // go after the lock
  absl::MutexLock lock(&mu_);
  uint64_t sum = 0;
  for (auto at = shelves_.begin(); at != shelves_.end() && sum < nbytes;) {
    Shelf& shelf = at->second;
    if (!shelf.blocks.empty() || shelf.idle_since > idle_since) {
      ++at;
      continue;
    }
    free_.at(shelf.memory_node).Remove(at->first, shelf.arena->nbytes());
    sum += shelf.arena->nbytes();
    dropped.push_back(std::move(shelf.arena));
    at = shelves_.erase(at);
  }
}

uint64_t BufferPool::held() const {
  absl::MutexLock lock(&mu_);
  uint64_t held = 0;
  for (const auto& [address, shelf] : shelves_) held += shelf.charge->bytes();
  return held;
}

BufferPool::Shelves::const_iterator BufferPool::Find(const void* data,
                                                     uint64_t nbytes) const {
  const uintptr_t address = AddressOf(data);
  auto found = shelves_.upper_bound(address);
  if (found == shelves_.begin()) return shelves_.end();
  --found;
  const uint64_t size = found->second.arena->nbytes();
  const uint64_t offset = address - found->first;
  return offset <= size && nbytes <= size - offset ? found : shelves_.end();
}

}  // namespace tensorferry
