#include "serialization/arrival_digest.h"

#include <algorithm>
#include <utility>

namespace tensorferry {

ArrivalDigest::ArrivalDigest(const Manifest& manifest,
                             const std::vector<Region>& regions,
                             std::shared_ptr<ChunkedDigests> digests)
    : manifest_(manifest), regions_(regions), digests_(std::move(digests)) {
  // Within a buffer storages lie in the order of their numbers.
  std::vector<uint32_t> place(manifest.buffer_count() + 1);
  for (int b = 0; b < manifest.buffer_count(); ++b) {
    place[b + 1] = place[b] + manifest.buffer_storages(b);
  }
  const bool payload = manifest.payload_nbytes() > 0;
  order_.resize(manifest.storage_count() + (payload ? 1 : 0));
  for (int s = 0; s < manifest.storage_count(); ++s) {
    order_[place[manifest.storage_buffer(s)]++] = static_cast<uint32_t>(s);
  }
  if (payload) order_.back() = manifest.storage_count();
}

ArrivalDigest::Run ArrivalDigest::RunOf(uint32_t digest) const {
  const int storage = static_cast<int>(digest);
  if (storage == manifest_.storage_count()) {
    return {manifest_.buffer_count() - 1, 0, manifest_.payload_nbytes()};
  }
  return {manifest_.storage_buffer(storage), manifest_.storage_at(storage),
          manifest_.storage_nbytes(storage)};
}

void ArrivalDigest::AdvanceTo(int buffer, uint64_t nbytes) {
  for (; next_ < order_.size(); ++next_) {
    const Run run = RunOf(order_[next_]);
    if (run.buffer > buffer) break;
    uint64_t there = run.nbytes;
    if (run.buffer == buffer) {
      there = std::min(there, nbytes - std::min(nbytes, run.begin));
    }
    const bool all = there == run.nbytes;
    if (!all) there -= there % kDigestChunk;
    if (all || there > digested_) {
      digests_->Add(order_[next_], regions_[run.buffer].data + run.begin,
                    digested_, there);
    }
    digested_ = all ? 0 : there;
    if (!all) break;
  }
  digests_->Compute();
}

std::vector<uint64_t> ArrivalDigest::Finish() {
  AdvanceTo(manifest_.buffer_count(), 0);
  return digests_->Take();
}

}  // namespace tensorferry
