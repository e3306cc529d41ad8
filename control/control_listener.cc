#include "control/control_listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/descriptor_budget.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "control/address.h"
#include "control/grpc_credentials.h"

namespace tensorferry {
namespace {

using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

// Users behind one unix socket, our own included; see UserDoor.
constexpr size_t kMaxUsers = 16;
constexpr int kRetryMs = 20;  // while there are no descriptors

absl::Status CannotListen(absl::string_view address, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": ", why));
}

absl::Status CannotListen(absl::string_view address) {
  const int error = errno;
  if (error == EADDRINUSE) return CannotListen(address, "it is in use");
  const absl::Status status = CannotListen(address, std::strerror(error));
  if (error != EMFILE && error != ENFILE && error != ENOMEM) return status;
  return absl::ResourceExhaustedError(status.message());
}

// ---- sockets ----

// The file of a socket that was bound just now. Goes with it, unless another
// one has taken its place.
class SocketFile {
 public:
  SocketFile() = default;
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    if (lstat(path_.c_str(), &made_) != 0) path_.clear();
  }
  SocketFile(SocketFile&& other) noexcept
      : path_(std::exchange(other.path_, "")), made_(other.made_) {}
  SocketFile& operator=(SocketFile&&) = delete;
  ~SocketFile() {
    struct stat there = {};
    if (!path_.empty() && lstat(path_.c_str(), &there) == 0 &&
        there.st_dev == made_.st_dev && there.st_ino == made_.st_ino) {
      unlink(path_.c_str());
    }
  }

 private:
  std::string path_;  // empty: none
  struct stat made_ = {};
};

struct ListeningSocket {
  UniqueFd fd;
  SocketFile file;
};

absl::StatusOr<ListeningSocket> ListenUnix(const std::string& address,
                                           mode_t mode) {
  FERRY_RETURN_IF_ERROR(CheckNobodyListens(address));
  const std::string path = PathOf(address);
  struct stat there = {};
  if (lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
    return CannotListen(address, "a file that is no socket is there");
  }
  unlink(path.c_str());
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) {
    return CannotListen(address);
  }
  SocketFile file(path);
  // Before listen nobody can connect, whatever the mode is until chmod.
  if (chmod(path.c_str(), mode) != 0 || listen(fd.get(), SOMAXCONN) != 0) {
    return CannotListen(address);
  }
  return ListeningSocket{std::move(fd), std::move(file)};
}

struct HostAndPort {
  std::string host, port;
};

HostAndPort Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  return {std::move(host), address.substr(colon + 1)};
}

absl::StatusOr<ListeningSocket> ListenTcp(const std::string& address) {
  const auto [host, port] = Split(address);
  addrinfo hints = {}, *found = nullptr;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) return CannotListen(address, gai_strerror(error));
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  const addrinfo* first = found;
  // A name that is of both families is listened to as most callers look it up.
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET) {
      first = one;
      break;
    }
  }
  UniqueFd fd(
      socket(first->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  // Not SO_REUSEPORT: two processes on one port would each get half of the
  // callers.
  if (!fd.valid() ||
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
      bind(fd.get(), first->ai_addr, first->ai_addrlen) != 0 ||
      listen(fd.get(), SOMAXCONN) != 0) {
    return CannotListen(address);
  }
  return ListeningSocket{std::move(fd), {}};
}

int PortOf(int fd) {
  sockaddr_storage name = {};
  socklen_t size = sizeof(name);
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  // The port is at the same place for both families.
  return ntohs(reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

// ---- users ----

// gRPC does not let an acceptor say who a connection is from, but credentials
// may: so each user of a unix socket gets one of a fixed number of acceptors,
// and its credentials tell whose it is.
class UserDoor : public grpc::AuthMetadataProcessor {
 public:
  // Written once, before the first connection of the user is handed over.
  void Give(uid_t uid) { uid_ = uid; }

  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata&, grpc::AuthContext* context,
                       OutputMetadata*, OutputMetadata*) override {
    // Calls of one connection share its context, and come on several threads.
    absl::MutexLock lock(&mu_);
    if (context->FindPropertyValues(kUserProperty).empty()) {
      context->AddProperty(kUserProperty, std::to_string(uid_.load()));
    }
    return grpc::Status::OK;
  }

 private:
  std::atomic<uid_t> uid_{0};
  absl::Mutex mu_;
};

// ---- the listener ----

class LiveListener final : public ControlListener {
 public:
  LiveListener(std::string address, ListeningSocket socket, UniqueFd stop,
               std::shared_ptr<const Access> access)
      : address_(std::move(address)),
        file_(std::move(socket.file)),
        fd_(std::move(socket.fd)),
        stop_(std::move(stop)),
        access_(std::move(access)) {}
  ~LiveListener() override;

  void AddTo(const ServerSecurity& security, grpc::ServerBuilder& builder);
  const std::string& address() const override { return address_; }
  void Start() override {
    thread_ = std::thread([this] { Run(); });
  }

 private:
  bool is_unix() const { return !doors_.empty(); }
  void Run();
  // Until `fd` is readable (if it is not -1) or the time is over; whether to go
  // on.
  bool Wait(int fd, int timeout_ms) const;
  void Take(UniqueFd connection);
  Acceptor* DoorOf(const UniqueFd& connection);

  const std::string address_;
  const SocketFile file_;
  const UniqueFd fd_, stop_;
  const std::shared_ptr<const Access> access_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::shared_ptr<UserDoor>> doors_;  // one for each acceptor
  std::vector<uid_t> users_;                      // who have a door
  std::thread thread_;
};

void LiveListener::AddTo(const ServerSecurity& security,
                         grpc::ServerBuilder& builder) {
  const auto add = [&](std::shared_ptr<grpc::ServerCredentials> credentials) {
    acceptors_.push_back(builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        std::move(credentials)));
  };
  if (!absl::StartsWith(address_, "unix:")) {
    return add(MakeServerCredentials(security));
  }
  for (size_t i = 0; i < kMaxUsers; ++i) {
    // Nothing of it goes over the wire: callers need no credentials of gRPC's.
    auto credentials = grpc::experimental::LocalServerCredentials(UDS);
    doors_.push_back(std::make_shared<UserDoor>());
    credentials->SetAuthMetadataProcessor(doors_.back());
    add(std::move(credentials));
  }
  // Others do not keep our own user out.
  users_.push_back(geteuid());
  doors_.front()->Give(users_.front());
}

LiveListener::~LiveListener() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written =
        write(stop_.get(), &one, sizeof(one));
    thread_.join();
  }
}

bool LiveListener::Wait(int fd, int timeout_ms) const {
  pollfd ends[2] = {{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  poll(ends, 2, timeout_ms);
  return ends[0].revents == 0;
}

void LiveListener::Run() {
  while (Wait(fd_.get(), -1)) {
    // Those that are kept back are for connections: without them nobody could
    // be told why he is refused.
    while (DescriptorBudget::OfProcess().Free() <=
           -DescriptorBudget::kKeptBack / 2) {
      if (!Wait(-1, kRetryMs)) return;
    }
    UniqueFd connection(
        accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (connection.valid()) {
      Take(std::move(connection));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
               errno == ENOMEM) {
      if (!Wait(-1, kRetryMs)) return;
    }
  }
}

// Null: this user may not come in.
Acceptor* LiveListener::DoorOf(const UniqueFd& connection) {
  if (!is_unix()) return acceptors_.front().get();
  ucred user = {};
  socklen_t size = sizeof(user);
  if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &user, &size) !=
          0 ||
      !access_->AdmitsUser(user.uid)) {
    return nullptr;
  }
  const auto known = std::find(users_.begin(), users_.end(), user.uid);
  const size_t index = known - users_.begin();
  if (known == users_.end()) {
    if (index == kMaxUsers) return nullptr;
    users_.push_back(user.uid);
    doors_[index]->Give(user.uid);
  }
  return acceptors_[index].get();
}

void LiveListener::Take(UniqueFd connection) {
  Acceptor* const acceptor = DoorOf(connection);
  if (acceptor == nullptr) return;
  Acceptor::NewConnectionParameters parameters;
  parameters.listener_fd = fd_.get();
  parameters.fd = connection.Release();
  acceptor->HandleNewConnection(&parameters);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlListener>> ControlListener::Listen(
    const std::string& address, const ServerSecurity& security,
    std::shared_ptr<const Access> access, grpc::ServerBuilder& builder) {
  FERRY_RETURN_IF_ERROR(CheckSecurity(security));
  const bool is_unix = absl::StartsWith(address, "unix:");
  FERRY_ASSIGN_OR_RETURN(
      ListeningSocket socket,
      is_unix ? ListenUnix(address, security.unix_mode) : ListenTcp(address));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return CannotListen(address);
  std::string with_port = address;
  if (!is_unix) {
    with_port = absl::StrCat(address.substr(0, address.rfind(':') + 1),
                             PortOf(socket.fd.get()));
  }
  auto listener =
      std::make_unique<LiveListener>(std::move(with_port), std::move(socket),
                                     std::move(stop), std::move(access));
  listener->AddTo(security, builder);
  return listener;
}

}  // namespace tensorferry
