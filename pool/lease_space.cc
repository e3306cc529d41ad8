#include "pool/lease_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/home_process.h"

namespace tensorferry {
namespace {

// So that huge pages of the peer's fit, if its block begins with one.
constexpr uint64_t kAlignment = uint64_t{2} << 20;

std::atomic<size_t> ranges = 0;  // of the process

}  // namespace

struct LeaseSpace::Reserved {
  Reserved() { ++ranges; }
  ~Reserved() {
    --ranges;
    if (!home.IsThis()) return;
    if (auto space = in.lock()) space->Forget(data);
    if (reserved != nullptr) munmap(reserved, reserved_bytes);
  }

  HomeProcess home;  // in a child the range stays
  std::weak_ptr<LeaseSpace> in;
  void* reserved = nullptr;
  uint64_t reserved_bytes = 0;
  std::byte* data = nullptr;
};

std::shared_ptr<LeaseSpace> LeaseSpace::Create() {
  return std::shared_ptr<LeaseSpace>(new LeaseSpace);
}

size_t LeaseSpace::Left() {
  const size_t taken = ranges;
  return kMostRanges - std::min(taken, kMostRanges);
}

absl::StatusOr<LeaseSpace::Range> LeaseSpace::Reserve(uint64_t nbytes) {
  if (nbytes == 0 || nbytes > UINT64_MAX - kAlignment) {
    return absl::InvalidArgumentError(
        absl::StrCat("a range of ", nbytes, " bytes"));
  }
  auto range = std::make_shared<Reserved>();
  if (ranges > kMostRanges) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this process leases ", kMostRanges,
                     " tensors already, which is the most"));
  }
  const uint64_t bytes = nbytes + kAlignment;
  void* const reserved =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("addresses for ", nbytes,
                     " bytes of a peer's: mmap: ", std::strerror(errno)));
  }
  const auto address = reinterpret_cast<uintptr_t>(reserved);
  range->reserved = reserved;
  range->reserved_bytes = bytes;
  range->data =
      static_cast<std::byte*>(reserved) + (-address & (kAlignment - 1));
  auto open = std::make_shared<char>();
  {
    absl::MutexLock lock(&mu_);
    ranges_[range->data] = {nbytes, open};
  }
  range->in = weak_from_this();
  std::byte* const data = range->data;
  return Range{data, std::move(range), std::move(open)};
}

bool LeaseSpace::Has(const void* data, uint64_t nbytes) const {
  absl::MutexLock lock(&mu_);
  const auto found = ranges_.find(data);
  return found != ranges_.end() && nbytes <= found->second.nbytes &&
         !found->second.open.expired();
}

void LeaseSpace::Forget(const void* data) {
  absl::MutexLock lock(&mu_);
  ranges_.erase(data);
}

}  // namespace tensorferry
