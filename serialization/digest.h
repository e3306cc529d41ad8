#ifndef TENSORFERRY_SERIALIZATION_DIGEST_H_
#define TENSORFERRY_SERIALIZATION_DIGEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "serialization/buffers.h"

namespace tensorferry {

// XXH3-64 of each storage's bytes in manifest order, and of the payload last.
// A storage that is not in host memory has digest 0 ("not computed"), and bytes
// whose digest happens to be 0 have 1.
// Reads every byte: belongs on an Executor, not on a loop.
std::vector<uint64_t> DigestOf(const Manifest& manifest,
                               const std::vector<Region>& regions);

// DATA_LOSS: count or value differs; names the storage and a tensor on it,
// with both values. A storage that either side has on a device is passed over.
absl::Status CompareDigests(const Manifest& manifest,
                            const std::vector<uint64_t>& sent,
                            const std::vector<uint64_t>& received);

// XXH3-128 over a message's digests, 32 hex digits; for receipts.
std::string DigestSummary(const std::vector<uint64_t>& digests);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DIGEST_H_
