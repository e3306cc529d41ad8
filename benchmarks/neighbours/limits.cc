#include "benchmarks/neighbours/limits.h"

#include <ATen/ops/from_blob.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "benchmarks/neighbours/pieces.h"
#include "benchmarks/two_process/workload.h"

namespace tensorferry::benchmarks {
namespace {

absl::Status SystemError(const char* call) {
  return absl::InternalError(absl::StrCat(call, ": ", std::strerror(errno)));
}

// A connected socket.
class Wire {
 public:
  explicit Wire(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  absl::Status Write(const void* data, size_t nbytes) {
    return Move(writev, {{const_cast<void*>(data), nbytes}}, "writev");
  }
  absl::Status Read(void* data, size_t nbytes) {
    return Move(readv, {{data, nbytes}}, "readv");
  }
  absl::Status WriteAll(std::vector<iovec> pieces) {
    return Move(writev, std::move(pieces), "writev");
  }
  absl::Status ReadAll(std::vector<iovec> pieces) {
    return Move(readv, std::move(pieces), "readv");
  }
  absl::Status Tell() { return Write("!", 1); }
  absl::Status BeTold() {
    char byte;
    return Read(&byte, 1);
  }

 private:
  // Until every piece has been moved as a whole.
  absl::Status Move(ssize_t (*call)(int, const iovec*, int),
                    std::vector<iovec> pieces, const char* name) {
    for (size_t at = 0; at < pieces.size();) {
      const int count = std::min<size_t>(IOV_MAX, pieces.size() - at);
      ssize_t moved = call(fd(), &pieces[at], count);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0) return SystemError(name);
      if (moved == 0) return absl::UnavailableError("the other side is gone");
      for (; at < pieces.size() &&
             static_cast<size_t>(moved) >= pieces[at].iov_len;
           ++at) {
        moved -= pieces[at].iov_len;
      }
      if (moved == 0) continue;
      pieces[at].iov_base = static_cast<char*>(pieces[at].iov_base) + moved;
      pieces[at].iov_len -= moved;
    }
    return absl::OkStatus();
  }

  UniqueFd fd_;
};

// ---- sockets whose address is a port of loopback

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void SetNoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

absl::StatusOr<UniqueFd> Listen() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in any = Loopback(0);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) !=
          0 ||
      listen(fd.get(), 1) != 0) {
    return SystemError("listen");
  }
  return fd;
}

absl::StatusOr<Wire> ConnectTo(const std::string& port) {
  int number = 0;
  if (!absl::SimpleAtoi(port, &number)) {
    return absl::InvalidArgumentError(absl::StrCat("what is '", port, "'?"));
  }
  Wire wire(UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  const sockaddr_in address = Loopback(number);
  if (connect(wire.fd(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    return SystemError("connect");
  }
  SetNoDelay(wire.fd());
  return wire;
}

// ---- loopback TCP

class TcpSender : public Sender {
 public:
  explicit TcpSender(Wire wire) : wire_(std::move(wire)) {}

  absl::Status Send(const Contents& contents) override {
    FERRY_RETURN_IF_ERROR(wire_.WriteAll(PiecesOf(contents.tensors)));
    return wire_.BeTold();
  }

 private:
  Wire wire_;
};

// What the receivers of the stream and of readv have in common.
class LimitReceiver : public Receiver {
 public:
  explicit LimitReceiver(Wire wire) : wire_(std::move(wire)) {}

  void Arm(const Contents& like, bool reuse) override {
    like_ = &like;
    reuse_ = reuse;
  }

  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    std::vector<at::Tensor> tensors =
        reuse_ ? like_->tensors : FreshLike(like_->tensors);
    FERRY_RETURN_IF_ERROR(Fetch(wire_, PiecesOf(tensors)));
    FERRY_RETURN_IF_ERROR(wire_.Tell());
    return tensors;
  }

 protected:
  virtual absl::Status Fetch(Wire& wire, std::vector<iovec> pieces) = 0;

 private:
  Wire wire_;
  const Contents* like_ = nullptr;
  bool reuse_ = false;
};

class TcpReceiver : public LimitReceiver {
  using LimitReceiver::LimitReceiver;
  absl::Status Fetch(Wire& wire, std::vector<iovec> pieces) override {
    return wire.ReadAll(std::move(pieces));
  }
};

// ---- process_vm_readv: the sender tells where its tensors are

class ReadvSender : public Sender {
 public:
  explicit ReadvSender(Wire wire) : wire_(std::move(wire)) {}

  absl::Status Send(const Contents& contents) override {
    const pid_t pid = getpid();
    std::vector<iovec> pieces = PiecesOf(contents.tensors);
    FERRY_RETURN_IF_ERROR(
        wire_.WriteAll({{const_cast<pid_t*>(&pid), sizeof(pid)},
                        {pieces.data(), pieces.size() * sizeof(iovec)}}));
    return wire_.BeTold();
  }

 private:
  Wire wire_;
};

class ReadvReceiver : public LimitReceiver {
  using LimitReceiver::LimitReceiver;

  absl::Status Fetch(Wire& wire, std::vector<iovec> pieces) override {
    pid_t pid;
    std::vector<iovec> theirs(pieces.size());
    FERRY_RETURN_IF_ERROR(wire.ReadAll(
        {{&pid, sizeof(pid)}, {theirs.data(), theirs.size() * sizeof(iovec)}}));
    for (size_t at = 0; at < pieces.size(); at += IOV_MAX) {
      FERRY_RETURN_IF_ERROR(
          Copy(pid, &pieces[at], &theirs[at],
               std::min<size_t>(IOV_MAX, pieces.size() - at)));
    }
    return absl::OkStatus();
  }

  static absl::Status Copy(pid_t pid, iovec* to, iovec* from, size_t count) {
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) total += to[i].iov_len;
    const ssize_t copied = process_vm_readv(pid, to, count, from, count, 0);
    if (copied < 0) return SystemError("process_vm_readv");
    // One call moves 2 GiB less a page at most, more than any message here.
    if (static_cast<size_t>(copied) == total) return absl::OkStatus();
    return absl::InternalError("process_vm_readv was cut short");
  }
};

// ---- memcpy into memory that the receiver shares

struct SharedMemory {
  pid_t pid;
  int fd;
  size_t nbytes;
};

absl::StatusOr<std::byte*> Map(int fd, size_t nbytes) {
  void* data = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_POPULATE, fd, 0);
  if (data == MAP_FAILED) return SystemError("mmap");
  return static_cast<std::byte*>(data);
}

class MemcpySender : public Sender {
 public:
  MemcpySender(Wire wire, int threads)
      : wire_(std::move(wire)), threads_(threads) {}
  ~MemcpySender() override { Unmap(); }

  absl::Status Send(const Contents& contents) override {
    if (contents.bytes != nbytes_) {
      FERRY_RETURN_IF_ERROR(MapTheirs(contents.bytes));
    }
    std::vector<std::thread> others;
    for (int part = 1; part < threads_; ++part) {
      others.emplace_back([&, part] { CopyPart(contents, part); });
    }
    CopyPart(contents, 0);
    for (std::thread& other : others) other.join();
    FERRY_RETURN_IF_ERROR(wire_.Tell());
    return wire_.BeTold();
  }

 private:
  void Unmap() {
    if (nbytes_ > 0) munmap(theirs_, nbytes_);
    nbytes_ = 0;
  }

  absl::Status MapTheirs(int64_t nbytes) {
    Unmap();
    SharedMemory memory;
    FERRY_RETURN_IF_ERROR(wire_.Read(&memory, sizeof(memory)));
    const std::string path =
        absl::StrCat("/proc/", memory.pid, "/fd/", memory.fd);
    const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return SystemError(path.c_str());
    FERRY_ASSIGN_OR_RETURN(theirs_, Map(fd.get(), memory.nbytes));
    nbytes_ = nbytes;
    return absl::OkStatus();
  }

  // The part of all bytes, end to end, that is this thread's.
  void CopyPart(const Contents& contents, int part) const {
    const int64_t begin = contents.bytes * part / threads_;
    const int64_t end = contents.bytes * (part + 1) / threads_;
    int64_t at = 0;
    for (const at::Tensor& tensor : contents.tensors) {
      const int64_t nbytes = tensor.nbytes();
      const int64_t from = std::max(begin, at);
      const int64_t to = std::min(end, at + nbytes);
      if (from < to) {
        auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
        std::memcpy(theirs_ + from, data + (from - at), to - from);
      }
      at += nbytes;
    }
  }

  Wire wire_;
  const int threads_;
  std::byte* theirs_ = nullptr;
  int64_t nbytes_ = 0;
};

class MemcpyReceiver : public Receiver {
 public:
  explicit MemcpyReceiver(Wire wire) : wire_(std::move(wire)) {}
  ~MemcpyReceiver() override { Unmap(); }

  // Into no memory but its own.
  void Arm(const Contents& like, bool /*reuse*/) override {
    if (like.bytes != nbytes_) status_ = Share(like);
  }

  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    FERRY_RETURN_IF_ERROR(status_);
    FERRY_RETURN_IF_ERROR(wire_.BeTold());
    FERRY_RETURN_IF_ERROR(wire_.Tell());
    return views_;
  }

 private:
  void Unmap() {
    views_.clear();
    if (nbytes_ > 0) munmap(data_, nbytes_);
    nbytes_ = 0;
  }

  absl::Status Share(const Contents& like) {
    Unmap();
    fd_ = UniqueFd(memfd_create("limit", MFD_CLOEXEC));
    if (!fd_.valid() || ftruncate(fd_.get(), like.bytes) != 0) {
      return SystemError("memfd_create");
    }
    FERRY_ASSIGN_OR_RETURN(data_, Map(fd_.get(), like.bytes));
    nbytes_ = like.bytes;
    int64_t at = 0;
    for (const at::Tensor& tensor : like.tensors) {
      views_.push_back(
          at::from_blob(data_ + at, tensor.sizes(), tensor.options()));
      at += tensor.nbytes();
    }
    const SharedMemory memory = {getpid(), fd_.get(),
                                 static_cast<size_t>(nbytes_)};
    return wire_.Write(&memory, sizeof(memory));
  }

  Wire wire_;
  absl::Status status_;
  UniqueFd fd_;
  std::byte* data_ = nullptr;
  int64_t nbytes_ = 0;
  std::vector<at::Tensor> views_;
};

// ----

template <class ReceiverType>
class SocketAcceptor : public Acceptor {
 public:
  explicit SocketAcceptor(UniqueFd listening)
      : fd_(std::move(listening)), address_(absl::StrCat(PortOf(fd_.get()))) {}

  const std::string& address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    Wire wire(UniqueFd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    if (wire.fd() < 0) return SystemError("accept4");
    SetNoDelay(wire.fd());
    return std::make_unique<ReceiverType>(std::move(wire));
  }

 private:
  const UniqueFd fd_;
  const std::string address_;
};

template <class SenderType, class ReceiverType, class... Arguments>
Neighbour Limit(Arguments... arguments) {
  return {.listen = []() -> absl::StatusOr<std::unique_ptr<Acceptor>> {
            FERRY_ASSIGN_OR_RETURN(UniqueFd listening, Listen());
            return std::make_unique<SocketAcceptor<ReceiverType>>(
                std::move(listening));
          },
          .connect = [=](const std::string& address)
              -> absl::StatusOr<std::unique_ptr<Sender>> {
            FERRY_ASSIGN_OR_RETURN(Wire wire, ConnectTo(address));
            return std::make_unique<SenderType>(std::move(wire), arguments...);
          }};
}

}  // namespace

Neighbour MemcpyLimit(int threads) {
  return Limit<MemcpySender, MemcpyReceiver>(threads);
}
Neighbour ReadvLimit() { return Limit<ReadvSender, ReadvReceiver>(); }
Neighbour TcpLimit() { return Limit<TcpSender, TcpReceiver>(); }

}  // namespace tensorferry::benchmarks
