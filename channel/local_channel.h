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
#include "base/unique_fd.h"
#include "channel/carried.h"
#include "channel/copy_reader.h"
#include "pool/buffer_pool.h"
#include "pool/lease_space.h"

namespace tensorpipe::transport {
class Connection;
}  // namespace tensorpipe::transport

namespace tensorferry {

// Descriptors beside the bytes of a transport's connections. All or none.
struct DescriptorPassing {
  using Connection = tensorpipe::transport::Connection;
  using Written = std::function<void(const tensorpipe::Error&)>;
  // Why the connection carries none; OK: it does.
  std::function<absl::Status(const Connection&)> carried_by;
  // Connection::write. The peer has `descriptor`, which stays open until then,
  // no later than the bytes. If it cannot go, `without` does, in their place.
  std::function<void(Connection&, int descriptor, const void* data,
                     const void* without, size_t length, Written)>
      write;
  // The oldest that came; nullopt: none; invalid: it could not come.
  std::function<std::optional<UniqueFd>(const Connection&)> take;
};

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
  // Without it neither side's pool is used.
  DescriptorPassing descriptors;
  // The session's memory to receive into: where buffers of at least
  // pool_from_bytes lie in it, the peer copies to them. Null: there is none.
  std::shared_ptr<BufferPool> pool;
  uint64_t pool_from_bytes = kPoolFromBytes;
  // Below it two frames more cost what the faster copy wins: measured, 64 KiB
  // take 1.2 of the time by vm, 256 KiB to 1 MiB 0.9, 256 MiB half.
  static constexpr uint64_t kPoolFromBytes = uint64_t{256} << 10;
  // While all that a channel has to send are so many bytes at most, it copies
  // them to the peer's pool on the loop: that takes less than the way to the
  // copier and back, and reads no memory of the peer's, which could hold it up.
  // While it is to receive no more, it reads there along what the peer places.
  uint64_t copy_on_loop_bytes = uint64_t{1} << 20;
  // The receiver reads all that comes at once, as to digest it. So it is told
  // how far a copy to its pool is.
  bool is_read_at_once = false;
  // On the loop: where in an arena with Arena::Peer::kReads a buffer to send
  // lies that the peer may be let read there; nullopt: nowhere. Null: none is.
  std::function<std::optional<BufferPool::Place>(const void* data,
                                                 uint64_t length)>
      lent;
  // Where buffers to receive lie that what the peer lends may be put in the
  // place of. Null: there are none.
  std::shared_ptr<const LeaseSpace> leases;
  // On the loop: who reads along while this much of this side's memory is
  // copied to the peer's pool, or filled by this side or the peer; null:
  // nobody. On the thread that copies it, or on the copier or the loop.
  std::function<std::shared_ptr<CopyReader>(CopyWay way, const void* data,
                                            uint64_t length)>
      reader_of;
  // Of the peer's arenas at a time; beyond it he is told that this side cannot.
  uint64_t peer_arena_bytes = uint64_t{1} << 40;
  // On the loop, before the callback of the buffer that it is about; not for
  // those that failed or have no bytes.
  std::function<void(Carried)> on_carried;
  // On the loop: a copy into or out of a buffer, or reading it along, begins or
  // was handed to the copier; it has ended or never will begin. While there is
  // none, this side touches no buffer but by the connections; the peer may at
  // any time write to those in the pool that it was asked to, until it is
  // through or they are fenced off: nobody tells of that. After close() on the
  // loop none is begun from the loop's next turn on.
  std::function<void(bool begun)> on_copy;
  // On the loop: a callback threw, as tensorpipe does at what it takes for
  // impossible. Its context is in an unknown state and must not be joined.
  std::function<void(absl::Status why)> on_wedged;
};

// A channel of tensorpipe for host memory between two processes of one user on
// one host. Four ways, the first that is possible:
// - lease: the bytes lie in an arena that the sender lends, and the receiver
//   maps them where its buffer is. Nothing is copied: the sender must not write
//   to them for as long as the receiver looks at them, which this channel does
//   not watch over.
// - pool: the receiver's buffer lies in its pool, of which the sender is given
//   the arena; the sender copies straight to it.
// - vm: the receiver reads straight from the sender's memory (process_vm_readv)
//   if it can prove that it reads the right process: the kernel names pid and
//   user of the connection's other end, and a nonce that the peer tells is
//   found in that process's memory.
// - stream: through the connection.
//
// Any thread; a context belongs to one tensorpipe::Context and costs no thread.
// Callbacks run in the order of send, and of recv. After close, each pending
// operation is called back once its copy under way, of one piece at most, has
// ended (one that the copier has not begun is none); join() and the destructor
// wait for that and must not run on the loop. A buffer that the peer may still
// be copying to is fenced off before (BufferPool::Fence), so that nobody waits
// for the peer and nothing that it writes later is seen. Should the system lack
// the pages for that, its arena is retired, but the peer's writes are seen by
// whoever still looks at the failed buffer.
//
// A send that failed, as by a close, may still have been delivered; but never
// bytes that were read after its callback.
std::shared_ptr<tensorpipe::channel::Context> MakeLocalChannel(
    LocalChannelOptions options);

// The status behind an error that a local channel gave to tensorpipe; nullopt:
// it comes from elsewhere. DATA_LOSS: the peer broke the channel's protocol, or
// offered memory that it does not have, or lends or wants it in an arena that
// it has not; UNAVAILABLE: the peer died or closed while its memory was read;
// RESOURCE_EXHAUSTED: it offered too many buffers; CANCELLED: closed on this
// side.
std::optional<absl::Status> LocalChannelErrorStatus(
    const tensorpipe::Error& error);

// Why this process's memory cannot be read by another of its user; empty: it
// can, as far as this side can tell.
std::string WhyUnreadable();

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_
