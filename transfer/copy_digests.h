#ifndef TENSORFERRY_TRANSFER_COPY_DIGESTS_H_
#define TENSORFERRY_TRANSFER_COPY_DIGESTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "channel/copy_reader.h"
#include "serialization/chunked_digests.h"
#include "serialization/manifest.h"
#include "transfer/pieces.h"

namespace tensorferry {

// Whether a buffer is that of one storage, which is in host memory on both
// sides: its digest may be computed along with a copy.
bool MayDigestAlong(const Manifest& manifest, int buffer);

// Digests of a message's storages, of which some are computed along with a
// copy.
struct DigestsAlong {
  // May throw std::bad_alloc.
  DigestsAlong(const Manifest& manifest, DigestHelpers* helpers);

  std::shared_ptr<ChunkedDigests> digests;  // of LengthsToDigest
  std::vector<int> storage_of;              // by buffer; -1: not MayDigestAlong
};

// Digests of bytes that a channel copies, computed while it does so and has
// them in its caches. Belongs to the loop; the readers are the copying
// threads'.
class CopyDigests {
 public:
  // The channel may come to copy the `nbytes` at `data`, which are those from
  // `from` on, a multiple of kDigestChunk, of a run of `digests`: what these
  // know of them is forgotten. Null: they are not to be digested so; it has to
  // be known all the same, as another message may have the same bytes.
  void Expect(const void* data, uint64_t nbytes,
              std::shared_ptr<ChunkedDigests> digests, size_t run,
              uint64_t from);
  // The same of a piece of a message that lies at `data`.
  void ExpectPiece(const Piece& piece, const void* data,
                   const Manifest& manifest, const DigestsAlong* along);
  // For the channel that begins to copy. Null: nobody wants that, or it is not
  // known for which message it is.
  std::shared_ptr<CopyReader> ReaderOf(const void* data, uint64_t nbytes);
  // It does not copy them any more.
  void Forget(const void* data);

  // Whether the channel copies, as far as can be told from what it did last.
  bool are_likely() const { return are_likely_; }

 private:
  struct Expected {
    int times = 0;
    bool was_copied = false;
    uint64_t nbytes = 0;
    std::shared_ptr<ChunkedDigests> digests;  // null: nobody reads
    uint64_t* first = nullptr;                // of the chunks
  };
  std::unordered_map<const void*, Expected> expected_;
  bool are_likely_ = false;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_COPY_DIGESTS_H_
