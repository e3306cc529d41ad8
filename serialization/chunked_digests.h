#ifndef TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_
#define TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

namespace tensorferry {

class DigestHelpers;

// A run of bytes (a storage, the payload) is digested in chunks of so many.
inline constexpr uint64_t kDigestChunk = uint64_t{1} << 20;

// Digests of runs of bytes, as they are on the wire: of one that is longer than
// a chunk, the digest of its chunks' digests, eight bytes each, the lowest byte
// first; each of them XXH3-64, and 1 where that is 0. So a run can be digested
// by several threads. One thread at a time.
class ChunkedDigests {
 public:
  // Of runs of so many bytes each. `helpers` are asked for help with more than
  // a chunk, and nobody waits for those that do not come; null: there are none.
  explicit ChunkedDigests(std::vector<uint64_t> nbytes,
                          DigestHelpers* helpers = nullptr);

  // Digests bytes [from, to) of a run that begins at `data`: now or in Compute,
  // but for chunks that have a digest. `from` is a multiple of kDigestChunk,
  // `to` as well or the run's end.
  void Add(size_t run, const std::byte* data, uint64_t from, uint64_t to);
  // Where the digests of the chunks from `from` on are, one after the other; 0:
  // not known yet. For whoever has read them already.
  uint64_t* ChunksFrom(size_t run, uint64_t from) {
    return &chunks_[first_[run] + from / kDigestChunk];
  }
  // The bytes that were added are read no more when it returns.
  void Compute();
  // Of all that has no digest yet.
  uint64_t BytesLeft() const;
  // After Compute. 0 for a run of which nothing was added; of the others, all.
  std::vector<uint64_t> Take();

 private:
  struct Job {
    const std::byte* data;
    uint64_t nbytes;
    uint64_t* digest;
  };
  struct Jobs;
  static void Help(const std::shared_ptr<Jobs>& jobs, DigestHelpers* helpers);

  const std::vector<uint64_t> nbytes_;
  DigestHelpers* const helpers_;
  std::vector<size_t> first_;     // chunk of each run
  std::vector<uint64_t> chunks_;  // digests, run by run
  std::vector<Job> jobs_;
};

// Digests as bytes: eight of each, the lowest first, whatever the machine's
// order.
std::vector<std::byte> BytesOfDigests(absl::Span<const uint64_t> digests);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_
