#ifndef TENSORFERRY_SERIALIZATION_TORCH_RPC_H_
#define TENSORFERRY_SERIALIZATION_TORCH_RPC_H_

#include <c10/core/Device.h>
#include <tensorpipe/core/message.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/limits.h"
#include "serialization/converter_registry.h"
#include "serialization/message.h"
#include "serialization/streams.h"

// The bytes of PyTorch's own RPC: what tensorpipeSerialize of
// torch/csrc/distributed/rpc/tensorpipe_utils.h writes and
// tensorpipeDeserialize reads, byte for byte. For talking to a process that
// runs PyTorch's TensorPipe agent; sessions between peers speak the manifest.
//
// On the wire: four payloads, which are the type (4 bytes), the id (8 bytes),
// the user's payload and a pickle of the list of tensors; then one tensorpipe
// tensor per storage, in the order in which the pickle first names them.
//
// What the format cannot carry is refused, or lost where libtorch loses it:
// - names, layouts other than strided, COO and CSR, and tensors of two dtypes
//   on one storage (libtorch gives both the first one's) are INVALID_ARGUMENT;
// - the coalesced flag of COO tensors and grad_fn are dropped.
//
// As libtorch does (cloneSparseTensors of torch/csrc/distributed/rpc/utils.cpp)
// a tensor is cloned first if its storage has at least 8192 bytes and at least
// twice as many as its elements need; it no longer aliases others then. Of all
// other tensors the whole storage is sent.
namespace tensorferry {

// Nothing here orders streams, as nothing in libtorch's functions does. What
// makes the tensors of a device has to come before the stream of
// TorchRpcOptions that carries them, and that of the receiver before what uses
// them: by events, which the caller makes. A message is over when the streams
// have come so far, not when the pipe calls back.
struct TorchRpcOptions {
  StreamSet streams;  // one for each device other than the CPU in the message
  const ConverterRegistry* converters = nullptr;  // null: the global one
};

// Keeps all that a tensorpipe::Message points to alive and in place. Destroy
// it after the callback of Pipe::write. Moving it does not move the bytes.
class TorchRpcWriteBuffers {
 public:
  struct Contents;
  explicit TorchRpcWriteBuffers(std::unique_ptr<Contents> contents);
  TorchRpcWriteBuffers(TorchRpcWriteBuffers&&) noexcept;
  TorchRpcWriteBuffers& operator=(TorchRpcWriteBuffers&&) noexcept;
  ~TorchRpcWriteBuffers();

 private:
  std::unique_ptr<Contents> contents_;
};

struct TorchRpcWrite {
  tensorpipe::Message message;
  TorchRpcWriteBuffers buffers;
};

// Where each tensor of `message` shall arrive: `targets` has an entry for each
// tensor, or is empty, which means the CPU for all. Decided per tensor and
// written for every storage that it consists of. (libtorch takes the entry
// with the storage's number, which is another tensor's after a sparse, a
// quantised or an aliased one, or lies beyond the list; and it writes every
// device but the CPU as "cuda".)
//
// INVALID_ARGUMENT, naming the tensor: one that the format cannot carry (see
//   above) or that has no storage, a device without converter, two tensors of
//   one storage with different targets, a wrong number of targets.
// FAILED_PRECONDITION: no stream for a device.
// RESOURCE_EXHAUSTED: no memory for a copy.
absl::StatusOr<TorchRpcWrite> TorchRpcSerialize(
    TensorMessage message, const std::vector<c10::Device>& targets,
    const TorchRpcOptions& options = {});

// Memory that a message is read into, and what its descriptor said of it.
// Moving it does not move the bytes.
class TorchRpcReadBuffers {
 public:
  struct Contents;
  explicit TorchRpcReadBuffers(std::unique_ptr<Contents> contents);
  TorchRpcReadBuffers(TorchRpcReadBuffers&&) noexcept;
  TorchRpcReadBuffers& operator=(TorchRpcReadBuffers&&) noexcept;
  ~TorchRpcReadBuffers();

 private:
  friend absl::StatusOr<TensorMessage> TorchRpcDeserialize(TorchRpcReadBuffers);
  std::unique_ptr<Contents> contents_;
};

struct TorchRpcRead {
  tensorpipe::Allocation allocation;
  TorchRpcReadBuffers buffers;
};

// Memory for the message that a peer announced, after checking all that its
// descriptor says. Of `limits`: message_bytes for everything together,
// manifest_bytes for the pickle, tensors and rank.
//
// INVALID_ARGUMENT, saying what and where: not four payloads of the right
//   lengths, a tensor without target device or with an impossible one, a
//   device without converter.
// FAILED_PRECONDITION: no stream for a device.
// RESOURCE_EXHAUSTED: a limit, named, or no memory.
absl::StatusOr<TorchRpcRead> TorchRpcAllocate(
    const tensorpipe::Descriptor& descriptor, const Limits& limits = {},
    const TorchRpcOptions& options = {});

// The message, once everything was read into `buffers`. The pickle may be
// anything: it is read as the list of tensors that libtorch's Pickler would
// have written, no other pickle is understood and nothing in it is executed.
// Every tensor lies within what was received. The indices of sparse tensors
// are checked if they are on the CPU; checking others would wait for a device.
//
// INVALID_ARGUMENT, saying what and where: a pickle that is something else,
//   contradicts itself or claims more bytes than were received.
// RESOURCE_EXHAUSTED: a limit that was given to TorchRpcAllocate, named.
absl::StatusOr<TensorMessage> TorchRpcDeserialize(TorchRpcReadBuffers buffers);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_TORCH_RPC_H_
