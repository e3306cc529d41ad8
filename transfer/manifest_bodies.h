#ifndef TENSORFERRY_TRANSFER_MANIFEST_BODIES_H_
#define TENSORFERRY_TRANSFER_MANIFEST_BODIES_H_

#include <cstdint>
#include <vector>

#include "serialization/manifest.h"
#include "transfer/pieces.h"
#include "transfer/rules.h"

namespace tensorferry {

// What both sides of a link read from a manifest without a word on the wire.

// Whether all bytes come from host memory and go to host memory: only then may
// they leave inline, or before their GRANT.
bool AllOnHost(const Manifest& manifest);

// Whether all bytes go to devices.
bool AllOnDevices(const Manifest& manifest);

// Whether tensors have parts whose values are checked when they have arrived
// (the indices of sparse ones), and must not change after that.
bool HasCheckedValues(const Manifest& manifest);

// The bodies that the bytes are cut into; see CutIntoBodies.
BodyCut BodiesOf(const Manifest& manifest, uint64_t body_bytes,
                 const std::vector<uint32_t>& lent = {});

// Bytes of these buffers.
uint64_t BytesOf(const Manifest& manifest,
                 const std::vector<uint32_t>& buffers);

// Bytes of the buffers that cross as memory of two hosts though one of their
// devices is a GPU, of a message that is sent or received.
uint64_t BytesThroughHost(const Manifest& manifest, const TransferRules& rules,
                          bool sent);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_MANIFEST_BODIES_H_
