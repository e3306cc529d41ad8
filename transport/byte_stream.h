#ifndef TENSORFERRY_TRANSPORT_BYTE_STREAM_H_
#define TENSORFERRY_TRANSPORT_BYTE_STREAM_H_

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace tensorferry {

// The bytes of a connected, non-blocking socket, plain or through TLS. Never
// raises SIGPIPE.
class ByteStream {
 public:
  enum class State { kOk, kBlocked, kEnd, kFailed, kNoDescriptor };
  struct Result {
    State state = State::kOk;
    size_t bytes = 0;      // with kOk: moved, at least one
    bool drained = false;  // with kOk of a Read: there was no more
    absl::Status status;   // with kFailed; UNAUTHENTICATED, UNAVAILABLE
    // With kOk of a Read: what came along with the bytes or before them.
    std::vector<UniqueFd> descriptors;
  };

  virtual ~ByteStream() = default;
  // What has to happen before the first byte: kOk, kBlocked or kFailed.
  virtual Result Prepare() { return {}; }
  virtual Result Read(const iovec* buffers, int count) = 0;
  // After kBlocked the next call must start with the same bytes.
  virtual Result Write(const iovec* buffers, int count) = 0;

  // Of unix sockets only. The same with a descriptor, which goes with the first
  // byte that is taken: after kBlocked it has not gone. kNoDescriptor: nothing
  // has, since the system does not let this process send one.
  virtual Result WriteWith(int descriptor, const iovec* buffers, int count);
  // From now on descriptors that come are kept: DATA_LOSS if there are more
  // with one write than kMostAtOnce, or one that is no memory of a memfd's,
  // sealed at its size. Where this process may not have one more, an invalid
  // one stands for those that did not come. Before, they are dropped.
  virtual void TakeDescriptors() {}
  static constexpr int kMostAtOnce = 4;

  // Whether no Read will give a byte any more: all that came has been read, and
  // the peer has finished or the connection is broken.
  virtual bool AtEnd() = 0;

  int fd() const { return fd_.get(); }

 protected:
  explicit ByteStream(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd TakeSocket() { return std::move(fd_); }  // to close it

 private:
  UniqueFd fd_;
};

std::unique_ptr<ByteStream> MakePlainStream(UniqueFd socket);

// UNAVAILABLE with the system's text.
absl::Status SocketError(const char* what, int error);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_BYTE_STREAM_H_
