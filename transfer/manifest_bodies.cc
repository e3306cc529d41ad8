#include "transfer/manifest_bodies.h"

#include <utility>
#include <vector>

namespace tensorferry {

bool AllOnHost(const Manifest& manifest) {
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    if (manifest.buffer_nbytes(i) == 0) continue;
    if (!manifest.buffer_source(i).is_cpu()) return false;
    if (!manifest.buffer_target(i).is_cpu()) return false;
  }
  return true;
}

bool AllOnDevices(const Manifest& manifest) {
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    if (manifest.buffer_nbytes(i) > 0 && manifest.buffer_target(i).is_cpu()) {
      return false;
    }
  }
  return manifest.BytesOnWire() > 0;
}

bool HasCheckedValues(const Manifest& manifest) {
  for (int t = 0; t < manifest.tensor_count(); ++t) {
    if (manifest.kind(t) != TensorKind::kDense) return true;
  }
  return false;
}

BodyCut BodiesOf(const Manifest& manifest, uint64_t body_bytes,
                 const std::vector<uint32_t>& lent) {
  std::vector<uint64_t> sizes(manifest.buffer_count());
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    sizes[i] = manifest.buffer_nbytes(i);
  }
  return CutIntoBodies(sizes, body_bytes, lent);
}

uint64_t BytesOf(const Manifest& manifest,
                 const std::vector<uint32_t>& buffers) {
  uint64_t nbytes = 0;
  for (const uint32_t buffer : buffers)
    nbytes += manifest.buffer_nbytes(buffer);
  return nbytes;
}

uint64_t BytesThroughHost(const Manifest& manifest, const TransferRules& rules,
                          bool sent) {
  if (rules.through_host.empty()) return 0;
  uint64_t nbytes = 0;
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    const DeviceId& source = manifest.buffer_source(i);
    const DeviceId& target = manifest.buffer_target(i);
    const auto pair =
        sent ? std::pair(source, target) : std::pair(target, source);
    if (rules.through_host.count(pair) > 0) nbytes += manifest.buffer_nbytes(i);
  }
  return nbytes;
}

}  // namespace tensorferry
