#include "transfer/copy_digests.h"

#include <algorithm>
#include <utility>

#include "serialization/xxh3.h"

namespace tensorferry {
namespace {

class ChunkReader : public CopyReader {
 public:
  ChunkReader(std::shared_ptr<ChunkedDigests> digests, uint64_t* first,
              uint64_t nbytes)
      : digests_(std::move(digests)), next_(first), left_(nbytes) {}

  void Read(const std::byte* data, uint64_t nbytes) override {
    while (nbytes > 0) {
      const uint64_t part = std::min(nbytes, kDigestChunk - in_chunk_);
      hash_.Add(data, part);
      in_chunk_ += part;
      left_ -= part;
      if (in_chunk_ == kDigestChunk || left_ == 0) {
        *next_++ = hash_.Take();
        in_chunk_ = 0;
      }
      data += part;
      nbytes -= part;
    }
  }

 private:
  const std::shared_ptr<ChunkedDigests> digests_;  // where `next_` is
  uint64_t* next_;
  uint64_t left_, in_chunk_ = 0;
  Xxh3Parts hash_;
};

}  // namespace

void CopyDigests::Expect(const void* data, uint64_t nbytes,
                         std::shared_ptr<ChunkedDigests> digests, size_t run,
                         uint64_t from) {
  Expected& expected = expected_[data];
  if (++expected.times > 1) {
    expected.digests = nullptr;
    return;
  }
  expected.nbytes = nbytes;
  if (digests != nullptr) expected.first = digests->ChunksFrom(run, from);
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
