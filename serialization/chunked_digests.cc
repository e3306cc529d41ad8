#include "serialization/chunked_digests.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/blocking_counter.h"
#include "base/exception_status.h"
#include "base/executor.h"
#include "base/little_endian.h"
#include "serialization/xxh3.h"

namespace tensorferry {
namespace {

// Less than it takes to write it down for later.
constexpr uint64_t kAtOnceBytes = uint64_t{64} << 10;
// Memory is not read faster by more threads than this together.
constexpr size_t kMostHelpers = 3;

size_t ChunksOf(uint64_t nbytes) {
  return std::max<uint64_t>(1, (nbytes + kDigestChunk - 1) / kDigestChunk);
}

uint64_t DigestOfDigests(const uint64_t* chunks, size_t count) {
  std::vector<std::byte> bytes(8 * count);
  for (size_t i = 0; i < count; ++i) {
    StoreLittleEndian(chunks[i], 8, &bytes[8 * i]);
  }
  return Xxh3NotZero(bytes.data(), bytes.size());
}

}  // namespace

// Whoever has a thread takes the next job. A helper that comes late finds none,
// and touches nothing but this.
struct ChunkedDigests::Jobs {
  explicit Jobs(std::vector<Job> jobs)
      : all(std::move(jobs)), left(static_cast<int>(all.size())) {}

  void Work() {
    for (size_t i; (i = next.fetch_add(1)) < all.size();) {
      *all[i].digest = Xxh3NotZero(all[i].data, all[i].nbytes);
      left.DecrementCount();
    }
  }

  const std::vector<Job> all;
  std::atomic<size_t> next = 0;
  absl::BlockingCounter left;
};

ChunkedDigests::ChunkedDigests(std::vector<uint64_t> nbytes, Executor* helpers)
    : nbytes_(std::move(nbytes)), helpers_(helpers) {
  first_.reserve(nbytes_.size());
  size_t chunks = 0;
  for (const uint64_t length : nbytes_) {
    first_.push_back(chunks);
    chunks += ChunksOf(length);
  }
  chunks_.resize(chunks);
}

void ChunkedDigests::Add(size_t run, const std::byte* data, uint64_t from,
                         uint64_t to) {
  uint64_t* digest = &chunks_[first_[run] + from / kDigestChunk];
  if (to - from <= kAtOnceBytes) {
    *digest = Xxh3NotZero(data + from, to - from);
    return;
  }
  for (uint64_t at = from; at < to; at += kDigestChunk) {
    jobs_.push_back({data + at, std::min(kDigestChunk, to - at), digest++});
  }
}

void ChunkedDigests::Compute() {
  if (jobs_.empty()) return;
  auto jobs = std::make_shared<Jobs>(std::exchange(jobs_, {}));
  const size_t helping =
      helpers_ == nullptr ? 0 : std::min(kMostHelpers, jobs->all.size() - 1);
  // Without memory for a task there is a helper less.
  CatchExceptions("digesting", [&] {
    for (size_t i = 0; i < helping; ++i) {
      helpers_->Run([jobs] { jobs->Work(); });
    }
  }).IgnoreError();
  jobs->Work();
  jobs->left.Wait();
}

std::vector<uint64_t> ChunkedDigests::Take() {
  std::vector<uint64_t> digests(nbytes_.size());
  for (size_t run = 0; run < digests.size(); ++run) {
    const uint64_t* chunks = &chunks_[first_[run]];
    const size_t count = ChunksOf(nbytes_[run]);
    const bool long_one = count > 1 && chunks[0] != 0;
    digests[run] = long_one ? DigestOfDigests(chunks, count) : chunks[0];
  }
  return digests;
}

}  // namespace tensorferry
