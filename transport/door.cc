#include "transport/door.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/random_bytes.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"
#include "transport/close_elsewhere.h"
#include "transport/tls_stream.h"

namespace tensorferry {
namespace {

// How long accepting waits where all strangers are in the middle of something.
constexpr absl::Duration kMoment = absl::Milliseconds(1);
// How long a socket rests that the system lets us take nothing from.
constexpr absl::Duration kRest = absl::Milliseconds(100);
constexpr int kAcceptsPerTurn = 64;

UniqueFd OpenSpare() {
  return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

// Names in the abstract namespace are free for all to take: this one cannot be
// guessed.
absl::StatusOr<std::string> AbstractName() {
  char random[8];
  FERRY_RETURN_IF_ERROR(RandomBytes(random, sizeof(random)));
  return absl::StrCat(
      "@tensorferry/", getpid(), "/",
      absl::BytesToHexString(absl::string_view(random, sizeof(random))));
}

bool IsRemoteTcp(const std::string& host) {
  return !IsLoopback({.wire = Wire::kTcp, .host = host});
}

}  // namespace

bool UsedNumbers::Use(uint64_t number) {
  if (highest_ >= kWindow && number <= highest_ - kWindow) return false;
  if (number > highest_) {
    const uint64_t steps = std::min(number - highest_, kWindow);
    for (uint64_t i = 0; i < steps; ++i) used_.reset((number - i) % kWindow);
    highest_ = number;
  }
  if (used_.test(number % kWindow)) return false;
  used_.set(number % kWindow);
  return true;
}

Door::Door(std::shared_ptr<HubState> hub)
    : hub_(std::move(hub)), spare_(OpenSpare()) {}

void Door::Socket::OnReady(uint32_t) {
  if (resume == 0) door->AcceptAll(*this);
}

absl::StatusOr<std::vector<DataAddress>> Door::ListenOn(
    const std::vector<Wire>& wires) {
  std::vector<DataAddress> addresses;
  std::vector<std::string> why_not;
  absl::Status last = absl::FailedPreconditionError("no wires are asked for");
  absl::MutexLock lock(&mu_);
  for (Wire wire : wires) {
    auto address = SocketFor(wire);
    if (address.ok()) {
      addresses.push_back(*std::move(address));
    } else {
      last = std::move(address).status();
      why_not.push_back(
          absl::StrCat(std::string(ToString(wire)), ": ", last.message()));
    }
  }
  if (!addresses.empty()) return addresses;
  return absl::Status(last.code(),
                      absl::StrCat("the data port can take none of the wires: ",
                                   absl::StrJoin(why_not, "; ")));
}

absl::StatusOr<DataAddress> Door::SocketFor(Wire wire) {
  const HubOptions& options = hub_->options;
  if (stopped_) return absl::FailedPreconditionError("the hub is going");
  if (wire != Wire::kUnix && options.host.empty()) {
    return absl::FailedPreconditionError("no interface was given for TCP");
  }
  if (wire == Wire::kTcp && IsRemoteTcp(options.host) &&
      !options.plaintext_from_hosts) {
    return absl::FailedPreconditionError(absl::StrCat(
        "plain TCP on ", options.host,
        " would leave this host; use TLS or allow plaintext between hosts"));
  }
  std::shared_ptr<Socket>& socket = wire == Wire::kUnix ? unix_ : tcp_;
  if (socket == nullptr) {
    FERRY_ASSIGN_OR_RETURN(socket, Open(wire));
  }
  DataAddress address = socket->address;
  address.wire = wire;
  if (wire != Wire::kUnix && !options.advertise.empty()) {
    address.host = options.advertise;
  }
  return address;
}

absl::StatusOr<std::shared_ptr<Door::Socket>> Door::Open(Wire wire) {
  const HubOptions& options = hub_->options;
  auto socket = std::make_shared<Socket>();
  socket->door = this;
  if (wire == Wire::kUnix) {
    socket->address.wire = Wire::kUnix;
    FERRY_ASSIGN_OR_RETURN(socket->address.path, AbstractName());
    FERRY_ASSIGN_OR_RETURN(socket->fd, Listen(socket->address));
  } else {
    socket->address = {.wire = Wire::kTcp, .host = options.host};
    FERRY_ASSIGN_OR_RETURN(socket->fd,
                           ListenInRange(socket->address, options.lowest_port,
                                         options.highest_port));
  }
  loop()->Post([self = shared_from_this(), socket] { self->Attend(socket); });
  return socket;
}

// Those who come meanwhile wait in the backlog.
void Door::Attend(std::shared_ptr<Socket> socket) {
  socket->resume = 0;
  if (!socket->fd.valid()) return;  // stopped before it began
  auto watch = loop()->Watch(socket->fd.get(), EPOLLIN, socket);
  if (watch.ok()) {
    socket->watch = *watch;
  } else {
    socket->resume = loop()->RunAt(
        loop()->clock()->Now() + kRest,
        [self = shared_from_this(), socket] { self->Attend(socket); });
  }
}

absl::Status Door::AddSession(std::shared_ptr<AcceptContext> context,
                              const std::vector<Wire>& wires,
                              absl::Time unused_until) {
  const std::string id = context->session().session_id;
  absl::MutexLock lock(&mu_);
  auto [session, added] = sessions_.try_emplace(id);
  if (!added) {
    return absl::AlreadyExistsError(
        absl::StrCat("session '", absl::CEscape(id), "' is expected already"));
  }
  session->second.context = std::move(context);
  session->second.wires = wires;
  session->second.unused =
      loop()->RunAt(unused_until, [weak = weak_from_this(), id] {
        if (auto self = weak.lock()) self->ExpireUnused(id);
      });
  return absl::OkStatus();
}

void Door::ExpireUnused(const std::string& session_id) {
  std::shared_ptr<AcceptContext> context;
  {
    absl::MutexLock lock(&mu_);
    auto session = sessions_.find(session_id);
    if (session == sessions_.end() || session->second.unused == 0) return;
    context = std::move(session->second.context);
    sessions_.erase(session);
  }
  context->EndListening(absl::UnavailableError(
      "no connection has proved the session's key in time"));
}

void Door::RemoveSession(const std::string& session_id) {
  std::shared_ptr<AcceptContext> dropped;  // outside the lock
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) return;
  loop()->CancelTimer(session->second.unused);
  dropped = std::move(session->second.context);
  sessions_.erase(session);
}

void Door::Stop() {
  std::shared_ptr<Socket> sockets[2];
  {
    absl::MutexLock lock(&mu_);
    stopped_ = true;
    sockets[0] = std::move(unix_);
    sockets[1] = std::move(tcp_);
  }
  for (auto& socket : sockets) {
    if (socket == nullptr) continue;
    loop()->CancelTimer(socket->resume);
    if (socket->watch != 0) loop()->Unwatch(socket->watch);
    socket->fd.Reset();
  }
  for (auto& incoming : std::exchange(incoming_, {})) incoming->Stop();
  for (auto& incoming : std::exchange(proved_, {})) incoming->Stop();
}

void Door::AcceptAll(Socket& socket) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (!MakeRoom(socket)) return;
    UniqueFd fd(accept4(socket.fd.get(), nullptr, nullptr,
                        SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      Admit(socket, std::move(fd));
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EMFILE:
      case ENFILE:
        if (DropOneForLackOfDescriptors(socket)) continue;
        return PauseUntil(socket, loop()->clock()->Now() + kRest);
      case EINTR:
      case ECONNABORTED:  // that one has gone already
      case EPROTO:
        continue;
      default:
        return PauseUntil(socket, loop()->clock()->Now() + kRest);
    }
  }
  PauseUntil(socket, loop()->clock()->Now());  // others have their turn
}

void Door::PauseUntil(Socket& socket, absl::Time until) {
  socket.resume = loop()->RunAt(until, [self = shared_from_this(), &socket] {
    socket.resume = 0;
    self->AcceptAll(socket);
  });
}

// So that who connects hears that it cannot, instead of nothing. False: nobody
// waits, or even that is not possible.
bool Door::DropOneForLackOfDescriptors(Socket& socket) {
  if (!spare_.valid()) spare_ = OpenSpare();
  if (!spare_.valid()) return false;
  spare_.Reset();
  UniqueFd dropped(accept4(socket.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const bool taken = dropped.valid();
  CloseSocket(std::move(dropped));
  spare_ = OpenSpare();
  if (taken) ++hub_->refused;
  return taken;
}

// Whether there is room for one more; else accepting pauses.
bool Door::MakeRoom(Socket& socket) {
  const auto stranger = [](const Incoming&) { return true; };
  if (CountStrangers(stranger) < hub_->options.max_handshakes) return true;
  if (EvictOldest(stranger, "too many handshakes under way")) return true;
  PauseUntil(socket, loop()->clock()->Now() + kMoment);
  return false;
}

// Peers of this host are many, and all have its address.
void Door::MakeRoomFor(const std::string& host) {
  if (!IsRemoteTcp(host)) return;
  const auto from_there = [&](const Incoming& incoming) {
    return incoming.origin().host == host;
  };
  if (CountStrangers(from_there) < hub_->options.max_handshakes_per_address) {
    return;
  }
  EvictOldest(from_there, "too many handshakes under way from there");
}

int Door::CountStrangers(
    absl::FunctionRef<bool(const Incoming&)> counts) const {
  return static_cast<int>(
      std::count_if(incoming_.begin(), incoming_.end(), [&](auto& incoming) {
        return !incoming->knows_session() && counts(*incoming);
      }));
}

bool Door::EvictOldest(absl::FunctionRef<bool(const Incoming&)> which,
                       absl::string_view why) {
  const absl::Time now = loop()->clock()->Now();
  auto oldest =
      std::find_if(incoming_.begin(), incoming_.end(), [&](auto& incoming) {
        return which(*incoming) && incoming->safe_until() <= now;
      });
  if (oldest == incoming_.end()) return false;
  OnRefused(**oldest, absl::ResourceExhaustedError(why));
  return true;
}

void Door::Admit(Socket& socket, UniqueFd fd) {
  Incoming::Origin origin;
  if (socket.address.wire == Wire::kUnix) {
    origin.over_unix = true;
    origin.peer = PeerOfSocket(fd.get());
    if (!origin.peer.has_value() || origin.peer->uid != geteuid()) {
      ++hub_->refused;
      return CloseSocket(std::move(fd));
    }
  } else {
    origin.host = RemoteHost(fd.get());
    MakeRoomFor(origin.host);
  }
  auto incoming = std::make_shared<Incoming>(loop(), this, std::move(fd),
                                             std::move(origin));
  incoming_.push_back(incoming);
  incoming->Start(hub_->options.handshake_timeout);
}

std::unique_ptr<ByteStream> Door::StreamFor(Incoming& incoming, Wire wire,
                                            UniqueFd& fd) {
  if (wire == Wire::kTls) {
    return MakeTlsServer(std::move(fd),
                         [this, &incoming](const std::string& session_id)
                             -> std::optional<std::string> {
                           auto key = FindKey(incoming, session_id, Wire::kTls);
                           if (!std::holds_alternative<std::string>(key))
                             return std::nullopt;
                           return std::get<std::string>(std::move(key));
                         });
  }
  if (wire == Wire::kTcp && IsRemoteTcp(incoming.origin().host) &&
      !hub_->options.plaintext_from_hosts) {
    return nullptr;
  }
  return MakePlainStream(std::move(fd));
}

std::variant<std::string, Refusal> Door::FindKey(Incoming& incoming,
                                                 const std::string& session_id,
                                                 Wire wire) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) return Refusal::kSession;
  const auto& wires = session->second.wires;
  if (std::find(wires.begin(), wires.end(), wire) == wires.end()) {
    return Refusal::kWire;
  }
  const AcceptContext& context = *session->second.context;
  if (context.connections() + CountOpening(session_id, incoming) >=
      hub_->options.max_connections_per_session) {
    return Refusal::kConnections;
  }
  incoming.OnSessionNamed(session_id);
  return context.session().key;
}

// Connections on their way to a session, without `but`.
int Door::CountOpening(const std::string& session_id,
                       const Incoming& but) const {
  int count = 0;
  for (const auto* incomings : {&incoming_, &proved_}) {
    for (const auto& other : *incomings) {
      count += other.get() != &but && other->session_id() == session_id;
    }
  }
  return count;
}

Refusal Door::TakeNumber(const std::string& session_id, uint64_t number) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) return Refusal::kSession;
  if (!session->second.numbers.Use(number)) return Refusal::kNumber;
  loop()->CancelTimer(std::exchange(session->second.unused, 0));
  return Refusal::kNone;
}

void Door::OnProved(Incoming& incoming) {
  incoming_.remove(incoming.shared_from_this());
  proved_.push_back(incoming.shared_from_this());
}

void Door::OnFirstFrame(Incoming& incoming) {
  std::shared_ptr<AcceptContext> context;
  {
    absl::MutexLock lock(&mu_);
    auto session = sessions_.find(incoming.session_id());
    if (session != sessions_.end()) context = session->second.context;
  }
  if (context == nullptr) {
    return OnRefused(incoming, absl::CancelledError("the session has ended"));
  }
  ++hub_->accepted;
  auto stream = incoming.TakeStream();
  auto first_frame = incoming.TakeFirstFrame();
  const std::optional<PeerProcess> peer = incoming.origin().peer;
  Forget(incoming);
  context->Deliver(std::move(stream), std::move(first_frame), peer);
}

void Door::OnRefused(Incoming& incoming, absl::Status) {
  ++hub_->refused;
  Forget(incoming);
}

// The caller may be what `incoming` keeps alive.
void Door::Forget(Incoming& incoming) {
  auto self = incoming.shared_from_this();
  incoming.Stop();
  incoming_.remove(self);
  proved_.remove(self);
}

}  // namespace tensorferry
