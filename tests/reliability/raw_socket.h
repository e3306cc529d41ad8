#ifndef TENSORFERRY_TESTS_RELIABILITY_RAW_SOCKET_H_
#define TENSORFERRY_TESTS_RELIABILITY_RAW_SOCKET_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/reliability/process_view.h"

namespace tensorferry {
namespace testing {

// A stranger's connection: sends what it likes. Never raises SIGPIPE.
class RawSocket {
 public:
  // UNAVAILABLE: nobody takes it in time (a full backlog included).
  static absl::StatusOr<RawSocket> Connect(
      const ListeningSocket& to, absl::Duration within = absl::Seconds(5));
  explicit RawSocket(int fd) : fd_(fd) {}
  RawSocket(RawSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~RawSocket();

  int fd() const { return fd_; }
  // Whether all of it was taken in time; the other end may have closed.
  bool Send(const std::string& bytes, absl::Duration within = absl::Seconds(5));
  // What comes next, up to `most` bytes; empty: closed, or nothing in time.
  std::string Read(size_t most, absl::Duration within = absl::Seconds(5));
  // Whether the other end closes in time. What it sends before is dropped.
  bool IsClosedWithin(absl::Duration within);
  void FinishSending();  // half a close
  void Reset();          // closes with RST

 private:
  int fd_;
};

// A listening TCP socket on 127.0.0.1 with a port of its own.
class RawListener {
 public:
  explicit RawListener(int backlog = 64);
  RawListener(const RawListener&) = delete;
  ~RawListener();

  int fd() const { return fd_; }
  int port() const { return port_; }
  // UNAVAILABLE: nobody came in time.
  absl::StatusOr<RawSocket> Accept(absl::Duration within);

 private:
  int fd_ = -1;
  int port_ = 0;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_RAW_SOCKET_H_
