#ifndef TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_
#define TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tensorferry {

class Executor;

// A run of bytes (a storage, the payload) is digested in chunks of so many.
inline constexpr uint64_t kDigestChunk = uint64_t{1} << 20;

// Digests of runs of bytes, as they are on the wire: of one that is longer than
// a chunk, the digest of its chunks' digests, eight bytes each, the lowest byte
// first; each of them XXH3-64, and 1 where that is 0. So a run can be digested
// by several threads. One thread at a time.
class ChunkedDigests {
 public:
  // Of runs of so many bytes each. Where much was added, tasks of `helpers`,
  // which may come at any time and never wait, help to compute; null: none do.
  explicit ChunkedDigests(std::vector<uint64_t> nbytes,
                          Executor* helpers = nullptr);

  // Digests bytes [from, to) of a run that begins at `data`: now or in Compute.
  // `from` is a multiple of kDigestChunk, `to` as well or the run's end.
  void Add(size_t run, const std::byte* data, uint64_t from, uint64_t to);
  // The bytes that were added are read no more when it returns.
  void Compute();
  // After Compute. 0 for a run of which nothing was added; of the others, all.
  std::vector<uint64_t> Take();

 private:
  struct Job {
    const std::byte* data;
    uint64_t nbytes;
    uint64_t* digest;
  };
  struct Jobs;

  const std::vector<uint64_t> nbytes_;
  Executor* const helpers_;
  std::vector<size_t> first_;     // chunk of each run
  std::vector<uint64_t> chunks_;  // digests, run by run
  std::vector<Job> jobs_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_CHUNKED_DIGESTS_H_
