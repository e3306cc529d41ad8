#ifndef TENSORFERRY_SERIALIZATION_ARRIVAL_DIGEST_H_
#define TENSORFERRY_SERIALIZATION_ARRIVAL_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "serialization/buffers.h"
#include "serialization/chunked_digests.h"
#include "serialization/manifest.h"

namespace tensorferry {

// What DigestOf computes, of a message in host memory whose bytes come in one
// after the other: buffer by buffer, in the manifest's order. What was digested
// must not change any more. Reads bytes as DigestOf does, and belongs there.
class ArrivalDigest {
 public:
  // `digests`: of LengthsToDigest; what they know already is not read. The
  // others must outlive it. May throw std::bad_alloc.
  ArrivalDigest(const Manifest& manifest, const std::vector<Region>& regions,
                std::shared_ptr<ChunkedDigests> digests);

  // The first `nbytes` bytes of `buffer` are there, and all buffers before it.
  void AdvanceTo(int buffer, uint64_t nbytes);
  // All are there. Once.
  std::vector<uint64_t> Finish();

 private:
  // What one digest is about.
  struct Run {
    int buffer;
    uint64_t begin, nbytes;  // in the buffer
  };
  Run RunOf(uint32_t digest) const;

  const Manifest& manifest_;
  const std::vector<Region>& regions_;
  const std::shared_ptr<ChunkedDigests> digests_;
  std::vector<uint32_t> order_;  // of digests_, as their bytes come in
  size_t next_ = 0;              // in order_: the first that is not finished
  uint64_t digested_ = 0;        // leading bytes of that one, whole chunks
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_ARRIVAL_DIGEST_H_
