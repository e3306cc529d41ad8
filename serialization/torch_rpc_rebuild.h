#ifndef TENSORFERRY_SERIALIZATION_TORCH_RPC_REBUILD_H_
#define TENSORFERRY_SERIALIZATION_TORCH_RPC_REBUILD_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "serialization/torch_rpc_pickle.h"

namespace tensorferry {

struct ReceivedStorage {
  c10::DataPtr data;  // null only if nbytes is 0
  uint64_t nbytes = 0;
  c10::Device device;
};

// The tensors that `pickled` describes on the memory that was received, which
// they own. Unlike libtorch, which takes the pickle's word for the lengths,
// this checks that each storage and each tensor lies within what arrived; and
// an empty tensor is on the device that it was sent to, not on the CPU.
// INVALID_ARGUMENT: names the tensor or storage that does not.
absl::StatusOr<std::vector<at::Tensor>> RebuildTensors(
    const PickledTensors& pickled, std::vector<ReceivedStorage> received);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_RPC_REBUILD_H_
