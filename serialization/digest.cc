#include "serialization/digest.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "serialization/chunked_digests.h"

namespace tensorferry {
namespace {

// Whether both sides have the bytes in host memory.
bool IsOnHosts(const Manifest& manifest, int buffer) {
  return manifest.buffer_source(buffer).is_cpu() &&
         manifest.buffer_target(buffer).is_cpu();
}

// Whether they have those of storage `storage`, or of the payload after the
// last.
bool StorageIsOnHosts(const Manifest& manifest, size_t storage) {
  return storage >= static_cast<size_t>(manifest.storage_count()) ||
         IsOnHosts(manifest,
                   manifest.storage_buffer(static_cast<int>(storage)));
}

// Storage `storage`, and a tensor on it; the payload is the one after the last.
std::string Describe(const Manifest& manifest, size_t storage) {
  if (storage == static_cast<size_t>(manifest.storage_count())) {
    return "payload";
  }
  for (int t = 0; t < manifest.tensor_count(); ++t) {
    for (int v = manifest.first_view(t); v < manifest.first_view(t + 1); ++v) {
      if (static_cast<size_t>(manifest.view(v).storage) == storage) {
        return absl::StrCat("storage ", storage, " of ", manifest.Describe(t));
      }
    }
  }
  return absl::StrCat("storage ", storage);
}

absl::StatusOr<HostCopies> Copied(const std::vector<Region>& regions) {
  HostCopies copies;
  copies.regions = regions;
  for (Region& region : copies.regions) {
    if (region.device().is_cpu()) continue;
    FERRY_ASSIGN_OR_RETURN(c10::DataPtr copy,
                           region.converter->CopyToHost(
                               region.data, region.nbytes, region.stream));
    region.data = static_cast<std::byte*>(copy.get());
    region.stream = c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::kCPU));
    copies.memory.push_back(std::move(copy));
  }
  return copies;
}

}  // namespace

bool HasBytesToDigest(const Manifest& manifest, DigestScope scope) {
  if (scope == DigestScope::kDevicesToo || manifest.payload_nbytes() > 0) {
    return manifest.BytesOnWire() > 0;
  }
  for (int b = 0; b < manifest.buffer_count(); ++b) {
    if (manifest.buffer_nbytes(b) > 0 && IsOnHosts(manifest, b)) return true;
  }
  return false;
}

std::vector<uint64_t> LengthsToDigest(const Manifest& manifest) {
  std::vector<uint64_t> nbytes;
  nbytes.reserve(manifest.storage_count() + 1);
  for (int s = 0; s < manifest.storage_count(); ++s) {
    nbytes.push_back(manifest.storage_nbytes(s));
  }
  if (manifest.payload_nbytes() > 0) {
    nbytes.push_back(manifest.payload_nbytes());
  }
  return nbytes;
}

std::vector<uint64_t> DigestOf(const Manifest& manifest,
                               const std::vector<Region>& regions,
                               DigestScope scope, Undigested undigested,
                               DigestHelpers* helpers) {
  ChunkedDigests digests(LengthsToDigest(manifest), helpers);
  return DigestRest(manifest, regions, scope, undigested, digests);
}

std::vector<uint64_t> DigestRest(const Manifest& manifest,
                                 const std::vector<Region>& regions,
                                 DigestScope scope, Undigested undigested,
                                 ChunkedDigests& begun) {
  std::vector<bool> wanted(regions.size());
  for (size_t b = 0; b < regions.size(); ++b) {
    wanted[b] = regions[b].device().is_cpu() &&
                !std::binary_search(undigested.begin(), undigested.end(),
                                    static_cast<uint32_t>(b)) &&
                (scope == DigestScope::kDevicesToo ||
                 IsOnHosts(manifest, static_cast<int>(b)));
  }
  for (int s = 0; s < manifest.storage_count(); ++s) {
    const int buffer = manifest.storage_buffer(s);
    if (!wanted[buffer]) continue;
    begun.Add(s, regions[buffer].data + manifest.storage_at(s), 0,
              manifest.storage_nbytes(s));
  }
  if (manifest.payload_nbytes() > 0) {
    begun.Add(manifest.storage_count(), regions.back().data, 0,
              manifest.payload_nbytes());
  }
  begun.Compute();
  return begun.Take();
}

DigestScope ScopeOf(const Manifest& manifest,
                    const std::vector<uint64_t>& digests) {
  for (size_t i = 0; i < digests.size(); ++i) {
    if (digests[i] != 0 && !StorageIsOnHosts(manifest, i)) {
      return DigestScope::kDevicesToo;
    }
  }
  return DigestScope::kHost;
}

absl::StatusOr<HostCopies> CopyToHost(const std::vector<Region>& regions) {
  return CatchExceptions("copying to the host",
                         [&] { return Copied(regions); });
}

absl::Status CompareDigests(const Manifest& manifest,
                            const std::vector<uint64_t>& sent,
                            const std::vector<uint64_t>& received) {
  if (sent.size() != received.size()) {
    return absl::DataLossError(absl::StrCat(sent.size(), " digests were sent, ",
                                            received.size(), " computed"));
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    if (sent[i] == received[i]) continue;
    const bool computed = sent[i] != 0 && received[i] != 0;
    if (!computed && !StorageIsOnHosts(manifest, i)) continue;
    return absl::DataLossError(
        absl::StrFormat("%s: digest %016x was sent, received bytes have %016x",
                        Describe(manifest, i), sent[i], received[i]));
  }
  return absl::OkStatus();
}

std::string DigestSummary(const std::vector<uint64_t>& digests) {
  const std::vector<std::byte> bytes = BytesOfDigests(digests);
  XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace tensorferry
