#include "serialization/arrival_digest.h"

#include <algorithm>
#include <utility>

namespace tensorferry {

ArrivalDigest::ArrivalDigest(const Manifest& manifest,
                             const std::vector<Region>& regions)
    : manifest_(manifest), regions_(regions) {
  const bool payload = manifest.payload_nbytes() > 0;
  digests_.resize(manifest.storage_count() + (payload ? 1 : 0));
  // Within a buffer storages lie in the order of their numbers.
  std::vector<uint32_t> place(manifest.buffer_count() + 1);
  for (int b = 0; b < manifest.buffer_count(); ++b) {
    place[b + 1] = place[b] + manifest.buffer_storages(b);
  }
  order_.resize(digests_.size());
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
    if (run.buffer > buffer) return;
    uint64_t there = run.nbytes;
    if (run.buffer == buffer) {
      there = std::min(there, nbytes - std::min(nbytes, run.begin));
    }
    const std::byte* data = regions_[run.buffer].data + run.begin;
    if (digested_ == 0 && there == run.nbytes) {
      digests_[order_[next_]] = DigestOfBytes(data, there);
      continue;
    }
    stream_.Add(data + digested_, there - digested_);
    digested_ = there;
    if (there < run.nbytes) return;
    digests_[order_[next_]] = stream_.Finish();
    digested_ = 0;
  }
}

std::vector<uint64_t> ArrivalDigest::Finish() {
  AdvanceTo(manifest_.buffer_count(), 0);
  return std::move(digests_);
}

}  // namespace tensorferry
