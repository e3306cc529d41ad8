#ifndef TENSORFERRY_SERIALIZATION_TORCH_RPC_WIRE_H_
#define TENSORFERRY_SERIALIZATION_TORCH_RPC_WIRE_H_

#include "serialization/converter_registry.h"
#include "serialization/torch_rpc.h"

namespace tensorferry {

// What both directions have in common.

// The payloads of a message, in this order.
enum TorchRpcPayload { kType, kId, kUser, kPickle, kPayloads };

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_RPC_WIRE_H_
