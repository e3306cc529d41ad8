#include "transport/byte_stream.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "transport/close_elsewhere.h"

namespace tensorferry {
namespace {

// SCM_MAX_FD: the system carries no more with one message.
constexpr int kMostOfSystem = 253;

// Looking at what a descriptor is of must not block, as a stat of a file could.
absl::Status CheckIsSealed(const UniqueFd& descriptor) {
  constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(descriptor.get(), F_GET_SEALS);
  if (seals >= 0 && (seals & kSizeSeals) == kSizeSeals) return absl::OkStatus();
  return absl::DataLossError(
      "the peer sent a descriptor that is not of memory (memfd) which is "
      "sealed against shrinking and growing");
}

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(UniqueFd fd) : ByteStream(std::move(fd)) {}
  ~PlainStream() override { CloseSocket(TakeSocket()); }

  // There is room for all descriptors that can come with one message, wanted or
  // not: the system would close the others within the call.
  Result Read(const iovec* buffers, int count) override {
    msghdr message = Message(buffers, count);
    Control control;
    control.AddTo(message);
    const ssize_t bytes =
        recvmsg(fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes == 0) return {.state = State::kEnd};
    Result result = ResultOf("recvmsg", bytes);
    if (bytes < 0) return result;
    std::vector<UniqueFd> came = DescriptorsOf(message);
    const bool some_did_not = (message.msg_flags & MSG_CTRUNC) != 0;
    size_t room = 0;
    for (int i = 0; i < count; ++i) room += buffers[i].iov_len;
    // The system stops behind bytes that a descriptor came with.
    result.drained = result.bytes < room && came.empty() && !some_did_not;
    absl::Status status = Check(came);
    if (!takes_descriptors_ || !status.ok()) {
      for (UniqueFd& descriptor : came) CloseElsewhere(std::move(descriptor));
      if (!takes_descriptors_) return result;
      return {.state = State::kFailed, .status = std::move(status)};
    }
    if (some_did_not) came.emplace_back();
    result.descriptors = std::move(came);
    return result;
  }

  Result Write(const iovec* buffers, int count) override {
    msghdr message = Message(buffers, count);
    return ResultOf("sendmsg",
                    sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  Result WriteWith(int descriptor, const iovec* buffers, int count) override {
    msghdr message = Message(buffers, count);
    Control control;
    control.AddTo(message);
    message.msg_controllen = CMSG_SPACE(sizeof(descriptor));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(descriptor));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(descriptor));
    const ssize_t bytes = sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    // Too many that nobody has received (of this user), or a security module.
    if (bytes < 0 &&
        (errno == ETOOMANYREFS || errno == EPERM || errno == EACCES)) {
      return {.state = State::kNoDescriptor};
    }
    return ResultOf("sendmsg with a descriptor", bytes);
  }

  void TakeDescriptors() override { takes_descriptors_ = true; }

  bool AtEnd() override {
    char byte;
    const ssize_t bytes = recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return bytes == 0 || (bytes < 0 && errno != EAGAIN);
  }

 private:
  // Room for the descriptors of one message.
  struct Control {
    void AddTo(msghdr& message) {
      message.msg_control = bytes;
      message.msg_controllen = sizeof(bytes);
    }
    alignas(cmsghdr) char bytes[CMSG_SPACE(kMostOfSystem * sizeof(int))];
  };

  static std::vector<UniqueFd> DescriptorsOf(msghdr& message) {
    std::vector<UniqueFd> all;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
      if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
        continue;
      }
      const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int descriptor;
        std::memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int),
                    sizeof(int));
        all.emplace_back(descriptor);
      }
    }
    return all;
  }

  static absl::Status Check(const std::vector<UniqueFd>& came) {
    if (came.size() > kMostAtOnce) {
      return absl::DataLossError(absl::StrCat("the peer sent ", came.size(),
                                              " descriptors at once, at most ",
                                              kMostAtOnce));
    }
    for (const UniqueFd& descriptor : came) {
      FERRY_RETURN_IF_ERROR(CheckIsSealed(descriptor));
    }
    return absl::OkStatus();
  }

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

  bool takes_descriptors_ = false;
};

}  // namespace

ByteStream::Result ByteStream::WriteWith(int, const iovec*, int) {
  return {.state = State::kFailed,
          .status = absl::InternalError("TLS carries no descriptors")};
}

std::unique_ptr<ByteStream> MakePlainStream(UniqueFd socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

absl::Status SocketError(const char* what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

}  // namespace tensorferry
