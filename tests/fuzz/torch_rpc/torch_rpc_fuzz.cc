#include <tensorpipe/common/cpu_buffer.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "serialization/torch_rpc.h"

// A message of a peer: the first byte says how many storages arrive, the next
// ones are their lengths, and the rest is the pickle of the tensors. Every
// storage holds zeros. What is accepted can be read: each tensor is within what
// arrived.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  if (size < 1 || size < size_t{1} + data[0]) return 0;
  const uint8_t* pickle = data + 1 + data[0];
  tensorpipe::Descriptor descriptor;
  descriptor.payloads.resize(4);
  descriptor.payloads[0].length = 4;
  descriptor.payloads[1].length = 8;
  descriptor.payloads[3].length = data + size - pickle;
  for (const uint8_t* length = data + 1; length != pickle; ++length) {
    auto& tensor = descriptor.tensors.emplace_back();
    tensor.length = *length;
    tensor.targetDevice = tensorpipe::Device("cpu", 0);
  }
  absl::StatusOr<TorchRpcRead> read = TorchRpcAllocate(descriptor);
  if (!read.ok()) std::abort();
  std::copy(pickle, data + size,
            static_cast<uint8_t*>(read->allocation.payloads[3].data));
  for (size_t i = 0; i < descriptor.tensors.size(); ++i) {
    auto buffer =
        read->allocation.tensors[i].buffer.unwrap<tensorpipe::CpuBuffer>();
    if (descriptor.tensors[i].length == 0) continue;
    std::memset(buffer.ptr, 0, descriptor.tensors[i].length);
  }
  absl::StatusOr<TensorMessage> message =
      TorchRpcDeserialize(std::move(read->buffers));
  if (!message.ok()) return 0;
  for (const at::Tensor& tensor : message->tensors) {
    if (tensor.layout() != c10::kStrided || tensor.numel() == 0) continue;
    int64_t last = tensor.storage_offset();
    for (int64_t d = 0; d < tensor.dim(); ++d) {
      last += (tensor.size(d) - 1) * tensor.stride(d);
    }
    bool packed = tensor.scalar_type() == c10::kQUInt4x2 ||
                  tensor.scalar_type() == c10::kQUInt2x4;
    if (!packed && static_cast<uint64_t>(last + 1) * tensor.element_size() >
                       tensor.storage().nbytes()) {
      std::abort();
    }
  }
  return 0;
}
