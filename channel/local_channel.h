#ifndef TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_
#define TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_

#include <tensorpipe/channel/context.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/executor.h"
#include "base/peer_process.h"

namespace tensorpipe::transport {
class Connection;
}  // namespace tensorpipe::transport

namespace tensorferry {

// How the local channel moved one buffer.
struct Carried {
  const void* buffer = nullptr;  // where it lies or went on this side
  size_t length = 0;
  std::string strategy;  // "vm" or "stream"
  // Why the strategies before it were not used; OK: there are none. Once one
  // has failed in a session it is not tried again in it.
  absl::Status fell_back;
};

struct LocalChannelOptions {
  Executor* copier = nullptr;  // runs copies of up to piece_bytes; required
  Executor* loop = nullptr;    // where callbacks run, in order; required
  // Who is at the other end of a connection, as the kernel says; nullopt:
  // unknown, and bytes go through the stream.
  std::function<std::optional<PeerProcess>(
      const tensorpipe::transport::Connection&)>
      peer_of;
  uint64_t piece_bytes = uint64_t{32} << 20;  // of one uncancellable copy
  // On the loop, before the callback of the buffer that it is about.
  std::function<void(Carried)> on_carried;
};

// A channel of tensorpipe for host memory between two processes of one user on
// one host. The receiver reads straight from the sender's memory
// (process_vm_readv) if it can prove that it reads the right process: the
// kernel names pid and user of the connection's other end, and a nonce that the
// peer tells is found in that process's memory. Else, or when the system
// refuses a copy, the bytes go through the connection.
//
// Any thread; a context belongs to one tensorpipe::Context and costs no thread.
// After close, each pending operation is called back once its copy under way,
// of one piece at most, has ended.
std::shared_ptr<tensorpipe::channel::Context> MakeLocalChannel(
    LocalChannelOptions options);

// Why this process's memory cannot be read by another of its user; empty: it
// can, as far as this side can tell.
std::string WhyUnreadable();

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_LOCAL_CHANNEL_H_
