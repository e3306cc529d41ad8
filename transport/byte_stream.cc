#include "transport/byte_stream.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(UniqueFd fd) : ByteStream(std::move(fd)) {}

  Result Read(const iovec* buffers, int count) override {
    msghdr message = Message(buffers, count);
    const ssize_t bytes = recvmsg(fd(), &message, MSG_DONTWAIT);
    if (bytes == 0) return {.state = State::kEnd};
    Result result = ResultOf("recvmsg", bytes);
    size_t room = 0;
    for (int i = 0; i < count; ++i) room += buffers[i].iov_len;
    result.drained = result.bytes < room;
    return result;
  }

  Result Write(const iovec* buffers, int count) override {
    msghdr message = Message(buffers, count);
    return ResultOf("sendmsg",
                    sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  bool AtEnd() override {
    char byte;
    const ssize_t bytes = recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return bytes == 0 || (bytes < 0 && errno != EAGAIN);
  }

 private:
  static msghdr Message(const iovec* buffers, int count) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(buffers);
    message.msg_iovlen = static_cast<size_t>(count);
    return message;
  }

  static Result ResultOf(const char* call, ssize_t bytes) {
    if (bytes >= 0) return {.bytes = static_cast<size_t>(bytes)};
    // Interrupted is impossible without waiting.
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return {.state = State::kBlocked};
    }
    return {.state = State::kFailed, .status = SocketError(call, errno)};
  }
};

}  // namespace

std::unique_ptr<ByteStream> MakePlainStream(UniqueFd socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

absl::Status SocketError(const char* what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

}  // namespace tensorferry
