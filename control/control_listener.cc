#include "control/control_listener.h"

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/descriptor_budget.h"
#include "base/exception_status.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "control/grpc_bounds.h"
#include "control/grpc_credentials.h"
#include "control/listening_socket.h"

namespace tensorferry {
namespace {

using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

// Users behind one unix socket, our own included; see UserDoor.
constexpr size_t kMaxUsers = 16;
constexpr int kRetryMs = 100;  // while there is no room
// A caller speaks first, be it HTTP/2 (whose first word this is) or TLS.
constexpr int kFirstWordBytes = 24;
constexpr absl::Duration kLongestSilence = absl::Seconds(10);
// An honest caller's first word may be on its way for so long.
constexpr absl::Duration kGrace = absl::Seconds(2);

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

// A connection that gRPC has, known again among descriptors of that number.
struct Handed {
  int fd;
  ino_t socket;
};

// Of what `fd` is, no other has the same; 0: nothing.
ino_t InodeOf(int fd) {
  struct stat what = {};
  return fstat(fd, &what) == 0 && S_ISSOCK(what.st_mode) ? what.st_ino : 0;
}

class LiveListener final : public ControlListener {
 public:
  LiveListener(ControlListenerOptions options, ListeningSocket socket,
               UniqueFd wake)
      : options_(std::move(options)),
        address_(std::move(socket.address)),
        file_(std::move(socket.file)),
        fd_(std::move(socket.fd)),
        wake_(std::move(wake)),
        waker_(clock().AddWaker([this] { Wake(); })) {}
  ~LiveListener() override;

  void AddTo(grpc::ServerBuilder& builder);
  const std::string& address() const override { return address_; }
  void Start() override {
    thread_ = std::thread([this] { Run(); });
  }

 private:
  struct Silent {
    UniqueFd connection;
    absl::Time until;
  };

  Clock& clock() const { return *options_.clock; }
  bool is_unix() const { return !doors_.empty(); }
  void Wake();
  // Whether it goes on.
  bool HearWake();
  void Run();
  // How long to wait for the next event.
  int TimeoutMs(bool paused) const;
  // Whether gRPC has as many as it may.
  bool IsFull();
  // False: not now.
  bool Accept();
  void Greet(UniqueFd connection);
  // `ends` are those of silent_, in its order.
  void HearSilent(absl::Span<const pollfd> ends);
  void Take(UniqueFd connection);
  Acceptor* DoorOf(const UniqueFd& connection);

  const ControlListenerOptions options_;
  const std::string address_;
  const SocketFile file_;
  const UniqueFd fd_, wake_;
  const Clock::WakerId waker_;
  std::atomic<bool> stopped_{false};
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::shared_ptr<UserDoor>> doors_;  // one for each acceptor
  // The thread's from here on.
  std::vector<uid_t> users_;    // who have a door
  std::deque<Silent> silent_;   // the oldest first
  std::vector<Handed> handed_;  // some of them may have ended
  std::thread thread_;
};

void LiveListener::AddTo(grpc::ServerBuilder& builder) {
  BoundServer(builder, options_.max_calls, options_.lease);
  const auto add = [&](std::shared_ptr<grpc::ServerCredentials> credentials) {
    acceptors_.push_back(builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        std::move(credentials)));
  };
  if (!absl::StartsWith(address_, "unix:")) {
    return add(MakeServerCredentials(options_.security));
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
  clock().RemoveWaker(waker_);
  stopped_ = true;
  Wake();
  if (thread_.joinable()) thread_.join();
}

void LiveListener::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      write(wake_.get(), &one, sizeof(one));
}

bool LiveListener::HearWake() {
  uint64_t wakes;
  [[maybe_unused]] const ssize_t taken =
      read(wake_.get(), &wakes, sizeof(wakes));
  return !stopped_;
}

void LiveListener::Run() {
  bool paused = false;
  std::vector<pollfd> ends;
  while (true) {
    ends.assign({{wake_.get(), POLLIN, 0}, {paused ? -1 : fd_.get(), POLLIN}});
    for (const Silent& silent : silent_) {
      ends.push_back({silent.connection.get(), POLLIN, 0});
    }
    poll(ends.data(), ends.size(), TimeoutMs(paused));
    if (ends[0].revents != 0 && !HearWake()) return;
    HearSilent(absl::MakeConstSpan(ends).subspan(2));
    paused = ends[1].revents != 0 && !Accept();
  }
}

int LiveListener::TimeoutMs(bool paused) const {
  if (paused) return kRetryMs;
  if (silent_.empty()) return -1;
  const absl::Duration left = clock().RealTimeUntil(silent_.front().until);
  if (left == absl::InfiniteDuration()) return -1;  // until the clock wakes us
  return static_cast<int>(absl::ToInt64Milliseconds(
      absl::Ceil(std::max(left, absl::ZeroDuration()), absl::Milliseconds(1))));
}

bool LiveListener::IsFull() {
  const auto most = static_cast<size_t>(options_.max_connections);
  if (handed_.size() >= most) {
    std::erase_if(handed_, [](const Handed& handed) {
      return InodeOf(handed.fd) != handed.socket;
    });
  }
  return handed_.size() >= most;
}

bool LiveListener::Accept() {
  // Those that are kept back are for connections: without them nobody could be
  // told why he is refused.
  if (DescriptorBudget::OfProcess().Free() <=
      -DescriptorBudget::kKeptBack / 2) {
    if (!silent_.empty() &&
        silent_.front().until - clock().Now() <= kLongestSilence - kGrace) {
      silent_.pop_front();
    }
    return false;
  }
  if (IsFull()) return false;
  UniqueFd connection(
      accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!connection.valid()) {
    return errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
           errno != ENOMEM;
  }
  if (is_unix()) {
    Take(std::move(connection));  // it is known who that is
  } else {
    Greet(std::move(connection));
  }
  return true;
}

void LiveListener::Greet(UniqueFd connection) {
  // It is readable once there is as much, or no more to come.
  setsockopt(connection.get(), SOL_SOCKET, SO_RCVLOWAT, &kFirstWordBytes,
             sizeof(kFirstWordBytes));
  silent_.push_back({std::move(connection), clock().Now() + kLongestSilence});
  if (silent_.size() > static_cast<size_t>(options_.max_silent)) {
    silent_.pop_front();
  }
}

void LiveListener::HearSilent(absl::Span<const pollfd> ends) {
  const absl::Time now = clock().Now();
  std::deque<Silent> still;
  for (size_t i = 0; i < ends.size(); ++i) {
    Silent& silent = silent_[i];
    if (ends[i].revents != 0) {
      Take(std::move(silent.connection));
    } else if (silent.until > now) {
      still.push_back(std::move(silent));
    }
  }
  silent_ = std::move(still);
}

// Null: this user may not come in.
Acceptor* LiveListener::DoorOf(const UniqueFd& connection) {
  if (!is_unix()) return acceptors_.front().get();
  const std::optional<PeerProcess> user = PeerOfSocket(connection.get());
  if (!user) return nullptr;
  bool admitted = false;
  CatchExceptions("the authorizer", [&] {
    admitted = options_.access->AdmitsUser(user->uid);
  }).IgnoreError();
  if (!admitted) return nullptr;
  const auto known = std::find(users_.begin(), users_.end(), user->uid);
  const size_t index = known - users_.begin();
  if (known == users_.end()) {
    if (index == kMaxUsers) return nullptr;
    users_.push_back(user->uid);
    doors_[index]->Give(user->uid);
  }
  return acceptors_[index].get();
}

void LiveListener::Take(UniqueFd connection) {
  Acceptor* const acceptor = DoorOf(connection);
  if (acceptor == nullptr) return;
  const int one = 1;  // gRPC has a mark of its own, or none
  setsockopt(connection.get(), SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
  handed_.push_back({connection.get(), InodeOf(connection.get())});
  Acceptor::NewConnectionParameters parameters;
  parameters.listener_fd = fd_.get();
  parameters.fd = connection.Release();
  acceptor->HandleNewConnection(&parameters);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlListener>> ControlListener::Listen(
    ControlListenerOptions options, grpc::ServerBuilder& builder) {
  FERRY_RETURN_IF_ERROR(CheckSecurity(options.security));
  FERRY_ASSIGN_OR_RETURN(ListeningSocket socket,
                         ListenAt(options.address, options.security.unix_mode));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return CannotListen(options.address);
  auto listener = std::make_unique<LiveListener>(
      std::move(options), std::move(socket), std::move(wake));
  listener->AddTo(builder);
  return listener;
}

}  // namespace tensorferry
