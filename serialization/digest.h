#ifndef TENSORFERRY_SERIALIZATION_DIGEST_H_
#define TENSORFERRY_SERIALIZATION_DIGEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "serialization/buffers.h"

namespace tensorferry {

class ChunkedDigests;
class DigestHelpers;

// Which storages have a digest: those that both sides have in host memory, or
// also those that one of them has on a device.
enum class DigestScope { kHost, kDevicesToo };

// Buffers, in growing order, that are out of any scope.
using Undigested = absl::Span<const uint32_t>;

// Whether a message has bytes in this scope: else digesting it takes no time.
bool HasBytesToDigest(const Manifest& manifest, DigestScope scope);

// What digests are of: the bytes of each storage, in manifest order, and last
// those of the payload if there is one.
std::vector<uint64_t> LengthsToDigest(const Manifest& manifest);

// The digest of each (see ChunkedDigests, also for `helpers`). One that is out
// of scope, or whose region is not in host memory, has 0: "not computed".
// Reads every byte: belongs on an Executor, not on a loop.
std::vector<uint64_t> DigestOf(const Manifest& manifest,
                               const std::vector<Region>& regions,
                               DigestScope scope, Undigested undigested = {},
                               DigestHelpers* helpers = nullptr);

// The same, but for the chunks that `begun` (of LengthsToDigest) knows already.
std::vector<uint64_t> DigestRest(const Manifest& manifest,
                                 const std::vector<Region>& regions,
                                 DigestScope scope, Undigested undigested,
                                 ChunkedDigests& begun);

// The scope in which `digests` were computed.
DigestScope ScopeOf(const Manifest& manifest,
                    const std::vector<uint64_t>& digests);

// The same bytes in host memory, once the streams of the regions have come as
// far as they are filled when this returns: what to digest of devices.
struct HostCopies {
  std::vector<Region> regions;
  std::vector<c10::DataPtr> memory;
};
// Statuses: those of DeviceConverter::CopyToHost. RESOURCE_EXHAUSTED too: no
// memory for lists of so many.
absl::StatusOr<HostCopies> CopyToHost(const std::vector<Region>& regions);

// DATA_LOSS: count or value differs; names the storage and a tensor on it,
// with both values. A storage that one side has on a device is passed over if
// one of its digests was not computed.
absl::Status CompareDigests(const Manifest& manifest,
                            const std::vector<uint64_t>& sent,
                            const std::vector<uint64_t>& received);

// XXH3-128 over a message's digests, 32 hex digits; for receipts.
std::string DigestSummary(const std::vector<uint64_t>& digests);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DIGEST_H_
