#include "serialization/chunked_digests.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/synchronization/blocking_counter.h"
#include "base/little_endian.h"
#include "serialization/digest_helpers.h"
#include "serialization/xxh3.h"

namespace tensorferry {
namespace {

// Less than it takes to write it down for later.
constexpr uint64_t kAtOnceBytes = uint64_t{64} << 10;
// A helper goes back to the end of the line after so many: others want its
// thread for a copy of some MiB.
constexpr size_t kChunksOfAHelper = 8;

size_t ChunksOf(uint64_t nbytes) {
  return std::max<uint64_t>(1, (nbytes + kDigestChunk - 1) / kDigestChunk);
}

uint64_t DigestOfDigests(absl::Span<const uint64_t> chunks) {
  const std::vector<std::byte> bytes = BytesOfDigests(chunks);
  return Xxh3NotZero(bytes.data(), bytes.size());
}

}  // namespace

// Whoever has a thread takes the next job. A helper that comes late finds none,
// and touches nothing but this.
struct ChunkedDigests::Jobs {
  explicit Jobs(std::vector<Job> jobs)
      : all(std::move(jobs)), left(static_cast<int>(all.size())) {}

  // False: there are no more.
  bool DoOne() {
    const size_t i = next.fetch_add(1);
    if (i >= all.size()) return false;
    *all[i].digest = Xxh3NotZero(all[i].data, all[i].nbytes);
    left.DecrementCount();
    return true;
  }

  const std::vector<Job> all;
  std::atomic<size_t> next = 0;
  absl::BlockingCounter left;
};

ChunkedDigests::ChunkedDigests(std::vector<uint64_t> nbytes,
                               DigestHelpers* helpers)
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
  uint64_t* digest = ChunksFrom(run, from);
  if (to - from <= kAtOnceBytes) {
    if (*digest == 0) *digest = Xxh3NotZero(data + from, to - from);
    return;
  }
  for (uint64_t at = from; at < to; at += kDigestChunk, ++digest) {
    if (*digest != 0) continue;
    jobs_.push_back({data + at, std::min(kDigestChunk, to - at), digest});
  }
}

void ChunkedDigests::Compute() {
  if (jobs_.empty()) return;
  uint64_t nbytes = 0;
  for (const Job& job : jobs_) nbytes += job.nbytes;
  auto jobs = std::make_shared<Jobs>(std::exchange(jobs_, {}));
  if (helpers_ != nullptr && nbytes > kDigestChunk) {
    for (int i = 0; i < helpers_->most(); ++i) {
      helpers_->Ask([jobs, helpers = helpers_] { Help(jobs, helpers); });
    }
  }
  while (jobs->DoOne()) continue;
  jobs->left.Wait();
}

// While there are jobs `helpers` are there too: somebody waits for the jobs.
void ChunkedDigests::Help(const std::shared_ptr<Jobs>& jobs,
                          DigestHelpers* helpers) {
  for (size_t i = 0; i < kChunksOfAHelper; ++i) {
    if (!jobs->DoOne()) return;
  }
  if (jobs->next < jobs->all.size()) {
    helpers->Ask([jobs, helpers] { Help(jobs, helpers); });
  }
}

uint64_t ChunkedDigests::BytesLeft() const {
  uint64_t left = 0;
  for (size_t run = 0; run < nbytes_.size(); ++run) {
    for (uint64_t at = 0; at < nbytes_[run]; at += kDigestChunk) {
      if (chunks_[first_[run] + at / kDigestChunk] != 0) continue;
      left += std::min(kDigestChunk, nbytes_[run] - at);
    }
  }
  return left;
}

std::vector<uint64_t> ChunkedDigests::Take() {
  std::vector<uint64_t> digests(nbytes_.size());
  for (size_t run = 0; run < digests.size(); ++run) {
    const uint64_t* chunks = &chunks_[first_[run]];
    const size_t count = ChunksOf(nbytes_[run]);
    const bool long_one = count > 1 && chunks[0] != 0;
    digests[run] = long_one ? DigestOfDigests({chunks, count}) : chunks[0];
  }
  return digests;
}

std::vector<std::byte> BytesOfDigests(absl::Span<const uint64_t> digests) {
  std::vector<std::byte> bytes(8 * digests.size());
  for (size_t i = 0; i < digests.size(); ++i) {
    StoreLittleEndian(digests[i], 8, &bytes[8 * i]);
  }
  return bytes;
}

}  // namespace tensorferry
