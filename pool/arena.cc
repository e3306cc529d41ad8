#include "pool/arena.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/descriptor_budget.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr uint64_t kBlockBytes = 512;  // of st_blocks, always

// What 2 MiB take in small pages, about; and what a slow beginning may cost.
constexpr std::chrono::microseconds kAsSmallPages(1000);
constexpr std::chrono::milliseconds kHugePagesHeadStart(10);

// Newer than some C libraries' headers.
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14
constexpr int kCollapse = 25;       // MADV_COLLAPSE, Linux 6.1

std::atomic<size_t> peer_arenas = 0;  // mapped

absl::Status Refused(const char* what, uint64_t nbytes) {
  const int error = errno;
  const std::string text = absl::StrCat(
      "an arena of ", nbytes, " bytes: ", what, ": ", std::strerror(error));
  switch (error) {
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case EFAULT:  // how populating says that there are no pages
      return absl::ResourceExhaustedError(text);
    default:
      return absl::FailedPreconditionError(text);
  }
}

absl::Status NotAnArena(const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("the peer's arena is refused: ", why));
}

// Of a peer's memory, which has to be `nbytes` that are there and cannot be cut
// short: its seals.
absl::StatusOr<int> CheckPeers(const UniqueFd& descriptor, uint64_t nbytes) {
  struct stat file = {};
  struct statfs system = {};
  if (fstat(descriptor.get(), &file) != 0 ||
      fstatfs(descriptor.get(), &system) != 0) {
    return NotAnArena(std::strerror(errno));
  }
  // Of huge pages that were set aside (hugetlbfs) there may be none left when
  // it is written to, which would be a SIGBUS.
  if (system.f_type != TMPFS_MAGIC) return NotAnArena("it is not of a memfd");
  const int seals = fcntl(descriptor.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSizeSeals) != kSizeSeals) {
    return NotAnArena("it is not sealed against shrinking and growing");
  }
  if (nbytes == 0 || nbytes % kPageBytes != 0 ||
      static_cast<uint64_t>(file.st_size) != nbytes) {
    return NotAnArena(absl::StrCat("it has ", file.st_size, " bytes, want ",
                                   nbytes, " in pages of ", kPageBytes));
  }
  // Or this process would be charged for them, at its first use of each. A peer
  // that may write can take them away later: see the header.
  if (static_cast<uint64_t>(file.st_blocks) * kBlockBytes < nbytes) {
    return NotAnArena("its pages were not made");
  }
  return seals;
}

// One small page each, then what the system makes of it: this works with huge
// pages of shared memory switched off (shmem_enabled), and takes a third of the
// time, but many times as long where memory is in pieces that the system has to
// move together first. So the first refusal ends it, and taking longer than
// small pages: there are those for the rest.
void MakeHugePages(const Mapping& mapping) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point give_up = Clock::now() + kHugePagesHeadStart;
  for (uint64_t at = 0; at + kHugePageBytes <= mapping.nbytes();
       at += kHugePageBytes) {
    if (Clock::now() > give_up) return;
    give_up += kAsSmallPages;
    std::byte* const page = mapping.data() + at;
    if (madvise(page, kPageBytes, kPopulateWrite) != 0 ||
        madvise(page, kHugePageBytes, kCollapse) != 0) {
      return;
    }
  }
}

// All pages, without a store that could be a SIGBUS for want of memory.
absl::Status MakePages(int descriptor, const Mapping& mapping) {
  MakeHugePages(mapping);
  if (madvise(mapping.data(), mapping.nbytes(), kPopulateWrite) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL) return Refused("making its pages", mapping.nbytes());
  if (fallocate(descriptor, 0, 0, mapping.nbytes()) != 0) {
    return Refused("fallocate", mapping.nbytes());
  }
  for (uint64_t at = 0; at < mapping.nbytes(); at += kPageBytes) {
    static_cast<volatile std::byte*>(mapping.data())[at] = std::byte{0};
  }
  return absl::OkStatus();
}

// The arenas of this process, for its children. Their mappings are shared, with
// the parent too: a child gets private ones in their place before it does
// anything else.
class Family {
 public:
  // Never destroyed: arenas and forks may be late.
  static Family& OfProcess() {
    static auto* const family = new Family;
    return *family;
  }

  void Add(const Arena* arena) {
    std::lock_guard<std::mutex> lock(mu_);
    arenas_.insert(arena);
  }
  // Whether it was one of this process's own.
  bool Remove(const Arena* arena) {
    std::lock_guard<std::mutex> lock(mu_);
    return arenas_.erase(arena) > 0;
  }
  uint64_t forks() const { return forks_.load(); }

 private:
  Family() {
    pthread_atfork([] { OfProcess().BeforeFork(); },
                   [] { OfProcess().mu_.unlock(); },
                   [] { OfProcess().GoOnAsChild(); });
  }

  void BeforeFork() {
    mu_.lock();
    forks_.fetch_add(1);
  }
  // A failure leaves what the parent has there.
  void GoOnAsChild() {
    for (const Arena* arena : arenas_) {
      mmap(arena->data(), arena->nbytes(), PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_FIXED, arena->descriptor(), 0);
    }
    arenas_.clear();
    mu_.unlock();
  }

  std::mutex mu_;
  std::set<const Arena*> arenas_;
  std::atomic<uint64_t> forks_ = 0;
};

}  // namespace

Mapping::Mapping(std::byte* reserved, uint64_t reserved_bytes)
    : reserved_(reserved), reserved_bytes_(reserved_bytes) {}

Mapping::Mapping(Mapping&& other) noexcept
    : home_(other.home_),
      reserved_(std::exchange(other.reserved_, nullptr)),
      reserved_bytes_(other.reserved_bytes_),
      data_(other.data_),
      nbytes_(other.nbytes_) {}

Mapping::~Mapping() {
  if (reserved_ != nullptr && home_.IsThis()) {
    munmap(reserved_, reserved_bytes_);
  }
}

absl::StatusOr<Mapping> Mapping::Of(int descriptor, uint64_t nbytes) {
  const uint64_t reserved_bytes = nbytes + kHugePageBytes;
  void* const reserved =
      mmap(nullptr, reserved_bytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return Refused("reserving addresses", nbytes);
  Mapping mapping(static_cast<std::byte*>(reserved), reserved_bytes);
  // At least a page of what was reserved is left behind it.
  const auto address = reinterpret_cast<uintptr_t>(reserved);
  mapping.data_ = mapping.reserved_ + (-address & (kHugePageBytes - 1));
  mapping.nbytes_ = nbytes;
  if (mmap(mapping.data_, nbytes, PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
    return Refused("mmap", nbytes);
  }
  return mapping;
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t number,
                                                     uint64_t nbytes,
                                                     Peer peer) {
  UniqueFd descriptor(
      memfd_create("tensorferry", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor.valid()) return Refused("memfd_create", nbytes);
  if (ftruncate(descriptor.get(), nbytes) != 0) {
    return Refused("ftruncate", nbytes);
  }
  FERRY_ASSIGN_OR_RETURN(Mapping mapping,
                         Mapping::Of(descriptor.get(), nbytes));
  FERRY_RETURN_IF_ERROR(MakePages(descriptor.get(), mapping));
  // Only the mapping that there is can be written to after F_SEAL_FUTURE_WRITE.
  const int for_reading = peer == Peer::kReads ? F_SEAL_FUTURE_WRITE : 0;
  if (fcntl(descriptor.get(), F_ADD_SEALS,
            kSizeSeals | for_reading | F_SEAL_SEAL) != 0) {
    return Refused("F_ADD_SEALS", nbytes);
  }
  return std::unique_ptr<Arena>(
      new Arena(number, std::move(descriptor), std::move(mapping)));
}

Arena::Arena(uint64_t number, UniqueFd descriptor, Mapping mapping)
    : number_(number),
      descriptor_(std::move(descriptor)),
      mapping_(std::move(mapping)) {
  Family::OfProcess().Add(this);
}

// A peer that writes there later writes to pages that nobody reads.
Arena::~Arena() {
  if (Family::OfProcess().Remove(this)) GiveBackPages(0, nbytes());
}

bool Arena::GiveBackPages(uint64_t offset, uint64_t nbytes) const {
  return forks_ == Forks() &&
         fallocate(descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   static_cast<off_t>(offset), static_cast<off_t>(nbytes)) == 0;
}

uint64_t Arena::Forks() { return Family::OfProcess().forks(); }

absl::StatusOr<std::unique_ptr<PeerArena>> PeerArena::Map(UniqueFd descriptor,
                                                          uint64_t nbytes) {
  FERRY_RETURN_IF_ERROR(CheckPeers(descriptor, nbytes).status());
  absl::StatusOr<Mapping> mapping = Mapping::Of(descriptor.get(), nbytes);
  // Sealed against writing, or not open for it.
  if (absl::IsFailedPrecondition(mapping.status())) {
    return NotAnArena(std::string(mapping.status().message()));
  }
  FERRY_RETURN_IF_ERROR(mapping.status());
  madvise(mapping->data(), nbytes, MADV_DONTFORK);
  std::unique_ptr<PeerArena> arena(new PeerArena(*std::move(mapping)));
  if (peer_arenas <= kMost) return arena;
  return absl::ResourceExhaustedError(
      absl::StrCat("this process has ", kMost,
                   " arenas of peers mapped already, which is the most"));
}

PeerArena::PeerArena(Mapping mapping) : mapping_(std::move(mapping)) {
  ++peer_arenas;
}

PeerArena::~PeerArena() { --peer_arenas; }

absl::StatusOr<std::shared_ptr<const LentArena>> LentArena::Take(
    UniqueFd descriptor, uint64_t nbytes) {
  FERRY_ASSIGN_OR_RETURN(const int seals, CheckPeers(descriptor, nbytes));
  if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0) {
    return NotAnArena("it is not sealed against writing");
  }
  // Blocks that were counted may lie behind the end, and a hole before it is a
  // SIGBUS where its page cannot be made. Where writing is sealed off, nobody
  // can make one later.
  if (lseek(descriptor.get(), 0, SEEK_HOLE) != static_cast<off_t>(nbytes)) {
    return NotAnArena("its pages were not made");
  }
  // It is open already; whether there are others left.
  FERRY_RETURN_IF_ERROR(DescriptorBudget::OfProcess()
                            .Take(0, "an arena that a peer lends")
                            .status());
  return std::shared_ptr<const LentArena>(
      new LentArena(std::move(descriptor), nbytes));
}

absl::Status LentArena::MapAt(std::byte* data, uint64_t nbytes,
                              uint64_t offset) const {
  if (offset % kPageBytes != 0 || offset > nbytes_ ||
      nbytes > nbytes_ - offset) {
    return NotAnArena(absl::StrCat(nbytes, " bytes at ", offset, " of ",
                                   nbytes_, " are to be read"));
  }
  const uint64_t pages = (nbytes + kPageBytes - 1) & ~(kPageBytes - 1);
  if (mmap(data, pages, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, descriptor_.get(),
           static_cast<off_t>(offset)) == MAP_FAILED) {
    return Refused("mmap", nbytes);
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
