#include "transport/incoming.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "transport/close_elsewhere.h"
#include "transport/handshake_io.h"
#include "transport/packets.h"
#include "transport/sockets.h"

namespace tensorferry {
namespace {

// Of a TLS record that opens a connection. A hello of ours starts otherwise.
constexpr uint8_t kTlsHandshake = 0x16;

// Those that are busy are told from those that hold a place. Who connects to us
// sends his first bytes at once; how soon we read them is a matter of load.
constexpr absl::Duration kSilentFor = absl::Milliseconds(20);
constexpr absl::Duration kTalkingFor = absl::Seconds(1);

bool HasUnreadBytes(int fd) {
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

// All that a stranger gets of our memory over a plain socket, but for a watch,
// a timer and a file descriptor.
static_assert(sizeof(Incoming) < 1024);

}  // namespace

Incoming::Incoming(PollLoop* loop, Door* door, UniqueFd fd, Origin origin)
    : loop_(loop),
      door_(door),
      origin_(std::move(origin)),
      since_(loop->clock()->Now()),
      fd_(std::move(fd)) {}

void Incoming::Start(absl::Duration timeout) {
  deadline_ = loop_->RunAt(since_ + timeout, [self = shared_from_this()] {
    self->door_->OnRefused(
        *self, absl::DeadlineExceededError("handshake not finished in time"));
  });
  auto watch = loop_->Watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP,
                            shared_from_this());
  if (!watch.ok()) return door_->OnRefused(*this, std::move(watch).status());
  watch_ = *watch;
}

absl::Time Incoming::safe_until() const {
  if (knows_session()) return absl::InfiniteFuture();
  const int fd = stream_ != nullptr ? stream_->fd() : fd_.get();
  return since_ + (HasUnreadBytes(fd) ? kTalkingFor : kSilentFor);
}

void Incoming::Stop() {
  if (watch_ != 0) loop_->Unwatch(std::exchange(watch_, 0));
  loop_->CancelTimer(deadline_);
  if (stream_ != nullptr) DropUnread(stream_->fd());
  stream_ = nullptr;
  CloseSocket(std::move(fd_));
}

void Incoming::OnReady(uint32_t) {
  auto self = shared_from_this();
  while (true) {
    auto through = Take();
    if (!through.ok()) {
      return door_->OnRefused(*this, std::move(through).status());
    }
    if (!*through) return;
    if (step_ == Step::kBody) break;
    step_ = static_cast<Step>(static_cast<int>(step_) + 1);
  }
  loop_->Unwatch(std::exchange(watch_, 0));
  loop_->CancelTimer(deadline_);
  door_->OnFirstFrame(*this);
}

absl::StatusOr<bool> Incoming::Take() {
  switch (step_) {
    case Step::kFirstByte:
      return FirstByte();
    case Step::kPrepare: {
      ByteStream::Result ready = stream_->Prepare();
      if (ready.state == ByteStream::State::kFailed) return ready.status;
      return ready.state == ByteStream::State::kOk;
    }
    case Step::kHandshake: {
      auto done = Drive(*handshake_, *stream_);
      if (!done.ok() || !*done) return done;
      door_->OnProved(*this);
      first_frame_.resize(FrameHeader::kBytes);
      return true;
    }
    case Step::kHeader: {
      auto read =
          ReadFully(*stream_, first_frame_.data(), first_frame_.size(), got_);
      if (!read.ok() || !*read) return read;
      FERRY_RETURN_IF_ERROR(StartFrame());
      return true;
    }
    case Step::kBody:
      break;
  }
  auto read =
      ReadFully(*stream_, first_frame_.data(), first_frame_.size(), got_);
  if (!read.ok() || !*read) return read;
  const absl::string_view frame(
      reinterpret_cast<const char*>(first_frame_.data()), first_frame_.size());
  FERRY_RETURN_IF_ERROR(ReadHello(frame.substr(FrameHeader::kBytes)).status());
  return true;
}

absl::StatusOr<bool> Incoming::FirstByte() {
  uint8_t first;
  const ssize_t bytes = recv(fd_.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (bytes <= 0) return absl::UnavailableError("closed without a byte");
  wire_ = origin_.over_unix        ? Wire::kUnix
          : first == kTlsHandshake ? Wire::kTls
                                   : Wire::kTcp;
  stream_ = door_->StreamFor(*this, wire_, fd_);
  if (stream_ == nullptr) {
    return absl::UnauthenticatedError(absl::StrCat("no connections over ",
                                                   std::string(ToString(wire_)),
                                                   " from ", origin_.host));
  }
  handshake_.emplace(
      wire_,
      [this](const std::string& session_id) {
        return door_->FindKey(*this, session_id, wire_);
      },
      [this](const std::string& session_id, uint64_t number) {
        return door_->TakeNumber(session_id, number);
      });
  return true;
}

absl::Status Incoming::StartFrame() {
  FERRY_ASSIGN_OR_RETURN(FrameHeader header,
                         DecodeFrameHeader(first_frame_.data()));
  if (header.kind != FrameKind::kPacket || header.length > kLongestFirstFrame) {
    return absl::DataLossError(
        absl::StrCat("a first frame of ", header.length, " bytes"));
  }
  first_frame_.resize(FrameHeader::kBytes + header.length);
  return absl::OkStatus();
}

}  // namespace tensorferry
