#ifndef TENSORFERRY_SERIALIZATION_DESERIALIZE_H_
#define TENSORFERRY_SERIALIZATION_DESERIALIZE_H_

#include "absl/status/statusor.h"
#include "serialization/buffers.h"
#include "serialization/message.h"

namespace tensorferry {

// The last step: the message, once all regions of `buffers` were written. Its
// tensors own the memory (or are the caller's own) and alias each other as the
// sender's did. INVALID_ARGUMENT: libtorch refuses what the manifest describes
// (sparse invariants, say); names the tensor. Whether indices of a sparse
// tensor on a device lie within its sizes is not checked, as the host would
// wait for the device: whoever does not trust the sender checks them before
// use. RESOURCE_EXHAUSTED: no memory left on a device where small tensors came
// together; each gets its own.
absl::StatusOr<TensorMessage> Deserialize(ReadBuffers buffers);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DESERIALIZE_H_
