#ifndef TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_
#define TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_

#include <tensorpipe/channel/context.h>
#include <tensorpipe/common/error.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/executor.h"
#include "base/peer_process.h"
#include "channel/carried.h"

namespace tensorpipe::transport {
class Connection;
}  // namespace tensorpipe::transport

namespace tensorferry {

struct LocalChannelOptions {
  // Both are required and must outlive the context.
  Executor* copier = nullptr;  // runs copies of up to piece_bytes
  Executor* loop = nullptr;    // one thread; where callbacks run
  // Who is at the other end of a connection, as the kernel says; nullopt:
  // unknown, and bytes go through the stream.
  std::function<std::optional<PeerProcess>(
      const tensorpipe::transport::Connection&)>
      peer_of;
  uint64_t piece_bytes = uint64_t{32} << 20;  // of one uncancellable copy
  // On the loop, before the callback of the buffer that it is about; not for
  // those that failed or have no bytes.
  std::function<void(Carried)> on_carried;
  // On the loop: a copy into a buffer was handed to the copier; it has ended or
  // never will begin. While there is none nobody writes to a buffer but the
  // connections. After close() on the loop none is begun from the loop's next
  // turn on.
  std::function<void(bool begun)> on_copy;
  // On the loop: a callback threw, as tensorpipe does at what it takes for
  // impossible. Its context is in an unknown state and must not be joined.
  std::function<void(absl::Status why)> on_wedged;
};

// A channel of tensorpipe for host memory between two processes of one user on
// one host. The receiver reads straight from the sender's memory
// (process_vm_readv) if it can prove that it reads the right process: the
// kernel names pid and user of the connection's other end, and a nonce that the
// peer tells is found in that process's memory. Else, or when the system
// refuses a copy, the bytes go through the connection.
//
// Any thread; a context belongs to one tensorpipe::Context and costs no thread.
// Callbacks run in the order of send, and of recv. After close, each pending
// operation is called back once its copy under way, of one piece at most, has
// ended (one that the copier has not begun is none); join() and the destructor
// wait for that and must not run on the loop.
//
// A send that failed, as by a close, may still have been delivered; but never
// bytes that were read after its callback.
std::shared_ptr<tensorpipe::channel::Context> MakeLocalChannel(
    LocalChannelOptions options);

// The status behind an error that a local channel gave to tensorpipe; nullopt:
// it comes from elsewhere. DATA_LOSS: the peer broke the channel's protocol, or
// offered memory that it does not have; UNAVAILABLE: the peer died or closed
// while its memory was read; RESOURCE_EXHAUSTED: it offered too many buffers;
// CANCELLED: closed on this side.
std::optional<absl::Status> LocalChannelErrorStatus(
    const tensorpipe::Error& error);

// Why this process's memory cannot be read by another of its user; empty: it
// can, as far as this side can tell.
std::string WhyUnreadable();

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_
