#include "transport/dialer.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_ends.h"
#include "base/status_macros.h"
#include "transport/handshake_io.h"
#include "transport/sockets.h"
#include "transport/tls_stream.h"

namespace tensorferry {
namespace {

// A full backlog of a unix socket tells nobody when it has room again.
constexpr absl::Duration kBacklogRetry = absl::Milliseconds(5);
// A hub that has too many handshakes under way closes the oldest.
constexpr absl::Duration kFirstRetry = absl::Milliseconds(20);
constexpr int kRetries = 5;

}  // namespace

Dialer::Dialer(PollLoop* loop, Target target,
               std::shared_ptr<Connection> connection)
    : loop_(loop),
      target_(std::move(target)),
      connection_(std::move(connection)) {}

void Dialer::Start() {
  if (connection_->failed()) return;
  connection_->WhenAbandoned(
      [self = shared_from_this()] { self->End(absl::OkStatus()); });
  deadline_ = loop_->RunAt(
      loop_->clock()->Now() + target_.timeout, [self = shared_from_this()] {
        self->End(absl::DeadlineExceededError(absl::StrCat(
            "no connection within ",
            absl::FormatDuration(self->target_.timeout),
            self->step_ == Step::kConnect ? ""
                                          : "; the peer does not answer")));
      });
  Attempt();
}

void Dialer::Attempt() {
  retry_ = 0;
  step_ = Step::kConnect;
  auto fd = OpenSocket(target_.address);
  if (!fd.ok()) return End(std::move(fd).status());
  const SocketAddress to = ToSocketAddress(target_.address);
  if (connect(fd->get(), to.get(), to.length) != 0 && errno != EINPROGRESS) {
    if (errno == EAGAIN) return RetryLater(kBacklogRetry);
    return End(SocketError("connect", errno));
  }
  stream_ = target_.address.wire == Wire::kTls
                ? MakeTlsClient(*std::move(fd), target_.session)
                : MakePlainStream(*std::move(fd));
  if (stream_ == nullptr) {
    return End(absl::ResourceExhaustedError("no memory for TLS"));
  }
  auto watch = loop_->Watch(stream_->fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP,
                            shared_from_this());
  if (!watch.ok()) return End(std::move(watch).status());
  watch_ = *watch;
}

void Dialer::OnReady(uint32_t) { Advance(); }

void Dialer::Advance() {
  while (true) {
    auto through = Take();
    if (!through.ok()) return OnError(std::move(through).status());
    if (!*through) return;
    if (step_ == Step::kHandshake) break;
    step_ = static_cast<Step>(static_cast<int>(step_) + 1);
  }
  loop_->Unwatch(std::exchange(watch_, 0));
  auto stream = std::move(stream_);
  End(absl::OkStatus());
  connection_->Open(
      {.stream = std::move(stream), .peer = peer_, .sent_ahead = sent_ahead_});
}

absl::StatusOr<bool> Dialer::Take() {
  switch (step_) {
    case Step::kConnect:
      return Connected();
    case Step::kPrepare: {
      ByteStream::Result ready = stream_->Prepare();
      if (ready.state == ByteStream::State::kFailed) return ready.status;
      if (ready.state != ByteStream::State::kOk) return false;
      FERRY_RETURN_IF_ERROR(StartHandshake());
      return true;
    }
    case Step::kHandshake:
      break;
  }
  return Drive(*handshake_, *stream_);
}

// What went ahead in an attempt before is said again: it was not taken, or by
// a connection that is over.
absl::Status Dialer::StartHandshake() {
  FERRY_ASSIGN_OR_RETURN(const Nonce nonce, RandomNonce());
  const std::string ahead = connection_->WhatMayGoAhead();
  sent_ahead_ = ahead.size();
  handshake_ =
      std::make_unique<ClientHandshake>(target_.session, target_.address.wire,
                                        (*target_.next_number)++, nonce, ahead);
  return absl::OkStatus();
}

absl::StatusOr<bool> Dialer::Connected() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(stream_->fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return SocketError("connect", error);
  sockaddr_storage name;
  length = sizeof(name);
  if (getpeername(stream_->fd(), reinterpret_cast<sockaddr*>(&name), &length) !=
      0) {
    return false;  // not yet
  }
  if (target_.address.wire != Wire::kUnix) return true;
  peer_ = PeerOfSocket(stream_->fd());
  if (!peer_.has_value() || peer_->uid != geteuid()) {
    return absl::UnauthenticatedError(absl::StrCat(
        "the data port ", ToString(target_.address), " belongs to user ",
        peer_.has_value() ? absl::StrCat(peer_->uid) : "unknown",
        ", this process to ", geteuid()));
  }
  return true;
}

void Dialer::OnError(absl::Status why) {
  const bool without_a_word =
      step_ != Step::kConnect && absl::IsUnavailable(why);
  Drop();
  if (without_a_word && closed_on_us_ < kRetries) {
    return RetryLater(kFirstRetry * (1 << closed_on_us_++));
  }
  End(std::move(why));
}

void Dialer::RetryLater(absl::Duration wait) {
  retry_ = loop_->RunAt(loop_->clock()->Now() + wait,
                        [self = shared_from_this()] { self->Attempt(); });
}

void Dialer::Drop() {
  if (watch_ != 0) loop_->Unwatch(std::exchange(watch_, 0));
  stream_ = nullptr;
  handshake_ = nullptr;
}

// With OK nothing is left but the timers.
void Dialer::End(absl::Status why) {
  if (std::exchange(ended_, true)) return;
  auto self = shared_from_this();
  connection_->WhenAbandoned(nullptr);
  Drop();
  loop_->CancelTimer(deadline_);
  loop_->CancelTimer(retry_);
  if (why.ok()) return;
  connection_->Fail(absl::Status(
      why.code(),
      absl::StrCat(ToString(target_.address), ": ", why.message())));
}

}  // namespace tensorferry
