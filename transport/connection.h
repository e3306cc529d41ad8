#ifndef TENSORFERRY_TRANSPORT_CONNECTION_H_
#define TENSORFERRY_TRANSPORT_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/peer_process.h"
#include "base/unique_fd.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/byte_stream.h"
#include "transport/call_queue.h"
#include "transport/frame.h"
#include "transport/packet_gate.h"
#include "transport/poll_loop.h"

namespace tensorferry {

// What tensorpipe reads from and writes to one peer, over a byte stream that
// has proved its session's key. Exists before it has its stream: until Open,
// operations wait.
//
// Lives on the loop but for the first group of methods. Each callback runs
// once, in order per direction, under no lock; after it the buffer is not
// touched.
class Connection final : public PollLoop::Watcher,
                         public std::enable_shared_from_this<Connection> {
 public:
  using Transport = tensorpipe::transport::Connection;

  // On the loop.
  class Owner {
   public:
    virtual ~Owner() = default;
    // It has failed or was closed, and calls no callback but with its error.
    virtual void OnOver(Connection* connection) = 0;
    virtual void OnBrokenFrame() = 0;
    // A callback of tensorpipe's threw.
    virtual void OnThrown(absl::Status why) = 0;
  };

  Connection(PollLoop* loop, uint64_t max_packet_bytes, PacketGate gate,
             std::shared_ptr<Owner> owner);

  // From any thread.
  void Read(Transport::read_callback_fn done);
  void Read(void* data, size_t length, Transport::read_callback_fn done);
  void Read(tensorpipe::AbstractNopHolder& packet,
            Transport::read_nop_callback_fn done);
  void Write(const void* data, size_t length,
             Transport::write_callback_fn done);
  // transport/descriptors.h
  void WriteWith(int descriptor, const void* data, const void* without,
                 size_t length, Transport::write_callback_fn done);
  std::optional<UniqueFd> TakeDescriptor();
  void Write(const tensorpipe::AbstractNopHolder& packet,
             Transport::write_callback_fn done);
  // Does nothing, and the loop may be gone, once its context was closed and
  // joined: who let go of it late closes it.
  void Close();
  std::optional<PeerProcess> peer() const;

  // What was written and may be said to who has not proved the key: that a pipe
  // is to be opened, or joined.
  std::string WhatMayGoAhead() const;
  struct Opening {
    std::unique_ptr<ByteStream> stream;
    std::optional<PeerProcess> peer;
    // Of a connection that was accepted: its first frame, which was read.
    std::vector<uint8_t> read_ahead = {};
    // Of one that was dialed: so much of WhatMayGoAhead was sent.
    size_t sent_ahead = 0;
  };
  void Open(Opening opening);
  // What is pending and what comes later ends with `why`. No effect once it has
  // failed.
  void Fail(absl::Status why);
  bool failed() const { return !status_.ok(); }
  // `abandon` is called if it fails before Open.
  void WhenAbandoned(std::function<void()> abandon) {
    abandon_ = std::move(abandon);
  }

 private:
  struct PendingRead {
    void* data = nullptr;
    size_t length = 0;
    tensorpipe::AbstractNopHolder* packet = nullptr;
    Transport::read_callback_fn done;
    Transport::read_nop_callback_fn packet_done;
  };

  void OnReady(uint32_t events) override;
  // Whether to be told of room to write.
  void AwaitRoom(bool await);

  void AddRead(PendingRead read);
  void AddWrite(Transport::write_callback_fn done);
  void Soon();
  void Progress();
  bool Step();
  bool CallBackFailed();
  bool Flush();
  void OnSent(size_t bytes);
  bool Receive();
  bool ReceiveMore();
  absl::Status Keep(std::vector<UniqueFd> descriptors);
  bool TakeStash();
  bool NoticeEnd();
  void Deliver();
  absl::Status ReadPacket(const std::vector<uint8_t>& body,
                          tensorpipe::AbstractNopHolder& packet);
  void Broken(absl::Status why);
  template <class Callback, class... Args>
  void CallBack(Callback callback, const Args&... args);

  PollLoop* const loop_;
  const uint64_t max_packet_bytes_;
  const std::shared_ptr<Owner> owner_;
  CallQueue calls_;

  // On the loop.
  absl::Status status_;  // not OK once it has failed
  std::function<void()> abandon_;
  std::unique_ptr<ByteStream> stream_;
  PollLoop::WatchId watch_ = 0;
  bool readable_ = false, writable_ = false;
  bool awaits_room_ = false;  // to write
  bool peer_gone_ = false;    // the system said so; there may be bytes to read
  PacketGate gate_;
  FrameReader reader_;
  absl::Status broken_;  // what it found
  FrameWriter writer_;
  std::deque<PendingRead> reads_;                    // as in reader_
  std::deque<Transport::write_callback_fn> writes_;  // as in writer_
  size_t sent_ahead_ = 0;                            // and not yet told
  std::vector<uint8_t> stash_;  // read ahead of what is expected
  size_t stash_used_ = 0;
  bool progressing_ = false;
  int direct_ = 0;  // calls that reached for the socket themselves, this turn
  bool turn_posted_ = false;
  // An accepted connection whose first packet has not been read: its error
  // would end tensorpipe's listener, so it is told only when that ends.
  bool hold_read_errors_ = false;

  mutable absl::Mutex mu_;
  std::optional<PeerProcess> peer_ ABSL_GUARDED_BY(mu_);
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // nothing is left to close
  std::deque<UniqueFd> descriptors_ ABSL_GUARDED_BY(mu_);  // that came
};

// As tensorpipe holds it; closes it when it lets go.
std::shared_ptr<tensorpipe::transport::Connection> MakeHandle(
    std::shared_ptr<Connection> connection);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_CONNECTION_H_
