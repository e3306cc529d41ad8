#include "transfer/copy_digests.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "serialization/digest.h"
#include "serialization/xxh3.h"

namespace tensorferry {
namespace {

// Of a part of a buffer that is copied at once.
bool IsWholeChunks(const Piece& piece, uint64_t buffer_nbytes) {
  return piece.offset % kDigestChunk == 0 &&
         (piece.nbytes % kDigestChunk == 0 ||
          piece.offset + piece.nbytes == buffer_nbytes);
}

uint64_t ChunksOf(uint64_t nbytes) {
  return (nbytes + kDigestChunk - 1) / kDigestChunk;
}

// What was not copied to its end has no digests.
class ChunkReader : public CopyReader {
 public:
  ChunkReader(std::shared_ptr<ChunkedDigests> digests, uint64_t* first,
              uint64_t nbytes)
      : digests_(std::move(digests)), first_(first), left_(nbytes) {
    read_.reserve(ChunksOf(nbytes));
  }

  void Read(const std::byte* data, uint64_t nbytes) override {
    while (nbytes > 0) {
      const uint64_t part = std::min(nbytes, kDigestChunk - in_chunk_);
      hash_.Add(data, part);
      in_chunk_ += part;
      left_ -= part;
      if (in_chunk_ == kDigestChunk || left_ == 0) {
        read_.push_back(hash_.Take());
        in_chunk_ = 0;
      }
      data += part;
      nbytes -= part;
    }
    if (left_ == 0) std::copy(read_.begin(), read_.end(), first_);
  }

 private:
  const std::shared_ptr<ChunkedDigests> digests_;  // where `first_` is
  uint64_t* const first_;
  uint64_t left_, in_chunk_ = 0;
  Xxh3Parts hash_;
  std::vector<uint64_t> read_;
};

}  // namespace

bool MayDigestAlong(const Manifest& manifest, int buffer) {
  return manifest.buffer_storages(buffer) == 1 &&
         manifest.buffer_source(buffer).is_cpu() &&
         manifest.buffer_target(buffer).is_cpu();
}

DigestsAlong::DigestsAlong(const Manifest& manifest, DigestHelpers* helpers)
    : digests(
          std::make_shared<ChunkedDigests>(LengthsToDigest(manifest), helpers)),
      storage_of(manifest.buffer_count(), -1) {
  for (int s = 0; s < manifest.storage_count(); ++s) {
    const int buffer = manifest.storage_buffer(s);
    if (MayDigestAlong(manifest, buffer)) storage_of[buffer] = s;
  }
}

void CopyDigests::ExpectPiece(const Piece& piece, const void* data,
                              const Manifest& manifest,
                              const DigestsAlong* along) {
  const int storage = along == nullptr ? -1 : along->storage_of[piece.buffer];
  const bool digest =
      storage >= 0 &&
      IsWholeChunks(piece, manifest.buffer_nbytes(piece.buffer));
  Expect(data, piece.nbytes, digest ? along->digests : nullptr,
         std::max(storage, 0), piece.offset);
}

void CopyDigests::Expect(const void* data, uint64_t nbytes,
                         std::shared_ptr<ChunkedDigests> digests, size_t run,
                         uint64_t from) {
  uint64_t* const first =
      digests == nullptr ? nullptr : digests->ChunksFrom(run, from);
  // Other bytes may come this time.
  if (first != nullptr) std::fill_n(first, ChunksOf(nbytes), 0);
  Expected& expected = expected_[data];
  if (++expected.times > 1) {
    expected.digests = nullptr;
    return;
  }
  expected.nbytes = nbytes;
  expected.first = first;
  expected.digests = std::move(digests);
}

std::shared_ptr<CopyReader> CopyDigests::ReaderOf(const void* data,
                                                  uint64_t nbytes) {
  are_likely_ = true;
  auto found = expected_.find(data);
  if (found == expected_.end()) return nullptr;
  Expected& expected = found->second;
  expected.was_copied = true;
  const std::shared_ptr<ChunkedDigests> digests =
      std::exchange(expected.digests, nullptr);
  if (digests == nullptr || expected.nbytes != nbytes) return nullptr;
  return std::make_shared<ChunkReader>(digests, expected.first, nbytes);
}

void CopyDigests::Forget(const void* data) {
  auto found = expected_.find(data);
  if (!found->second.was_copied) are_likely_ = false;
  if (--found->second.times == 0) expected_.erase(found);
}

}  // namespace tensorferry
