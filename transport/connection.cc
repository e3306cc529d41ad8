#include "transport/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "transport/close_elsewhere.h"
#include "transport/descriptors.h"
#include "transport/hub.h"
#include "transport/hub_error.h"

namespace tensorferry {
namespace {

using ::tensorpipe::AbstractNopHolder;
using ::tensorpipe::Error;

constexpr int kBuffersPerCall = 64;
// What one connection may do before others have their turn.
constexpr int kStepsPerTurn = 16;
constexpr int kDirectPerTurn = 4;
constexpr size_t kScratchBytes = 64 << 10;
// Room to write is not watched for while there is some: a unix socket tells of
// it whenever the peer reads, which would wake us once for each message.
constexpr uint32_t kUsualEvents = EPOLLIN | EPOLLRDHUP;

// libnop's reader does not stop at the end of what it is given. The gate lets
// only whole values through; should the two differ about one, it finds these
// behind it: a prefix that no value has.
constexpr size_t kGuardBytes = 64;
constexpr uint8_t kNoValue = 0x8a;

const uint8_t* Guard() {
  static const auto* const guard =
      new std::vector<uint8_t>(kGuardBytes, kNoValue);
  return guard->data();
}

absl::string_view Text(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Handle final : public tensorpipe::transport::Connection {
 public:
  explicit Handle(std::shared_ptr<tensorferry::Connection> connection)
      : connection_(std::move(connection)) {}
  ~Handle() override { connection_->Close(); }

  void read(read_callback_fn fn) override { connection_->Read(std::move(fn)); }
  void read(void* ptr, size_t length, read_callback_fn fn) override {
    connection_->Read(ptr, length, std::move(fn));
  }
  void write(const void* ptr, size_t length, write_callback_fn fn) override {
    connection_->Write(ptr, length, std::move(fn));
  }
  void read(AbstractNopHolder& object, read_nop_callback_fn fn) override {
    connection_->Read(object, std::move(fn));
  }
  void write(const AbstractNopHolder& object, write_callback_fn fn) override {
    connection_->Write(object, std::move(fn));
  }
  void setId(std::string) override {}
  void close() override { connection_->Close(); }

  tensorferry::Connection& connection() const { return *connection_; }

 private:
  const std::shared_ptr<tensorferry::Connection> connection_;
};

absl::Status NoDescriptors() {
  return absl::FailedPreconditionError(
      "the connection carries no descriptors: it is no unix socket of a hub's, "
      "or not connected yet");
}

// Null: of another transport.
Connection* Behind(const tensorpipe::transport::Connection& connection) {
  auto* handle = dynamic_cast<const Handle*>(&connection);
  return handle == nullptr ? nullptr : &handle->connection();
}

}  // namespace

Connection::Connection(PollLoop* loop, uint64_t max_packet_bytes,
                       PacketGate gate, std::shared_ptr<Owner> owner)
    : loop_(loop),
      max_packet_bytes_(max_packet_bytes),
      owner_(std::move(owner)),
      calls_(loop),
      gate_(std::move(gate)),
      reader_(max_packet_bytes) {}

void Connection::Read(Transport::read_callback_fn done) {
  calls_.Run(shared_from_this(), [this, done = std::move(done)]() mutable {
    AddRead({.done = std::move(done)});
  });
}

void Connection::Read(void* data, size_t length,
                      Transport::read_callback_fn done) {
  calls_.Run(shared_from_this(),
             [this, data, length, done = std::move(done)]() mutable {
               // A buffer of nothing must differ from no buffer.
               static char nothing;
               AddRead({.data = data == nullptr ? &nothing : data,
                        .length = length,
                        .done = std::move(done)});
             });
}

void Connection::Read(AbstractNopHolder& packet,
                      Transport::read_nop_callback_fn done) {
  calls_.Run(shared_from_this(),
             [this, &packet, done = std::move(done)]() mutable {
               AddRead({.packet = &packet, .packet_done = std::move(done)});
             });
}

void Connection::Write(const void* data, size_t length,
                       Transport::write_callback_fn done) {
  calls_.Run(shared_from_this(),
             [this, data, length, done = std::move(done)]() mutable {
               if (!failed()) writer_.AddBytes(data, length);
               AddWrite(std::move(done));
             });
}

void Connection::WriteWith(int descriptor, const void* data,
                           const void* without, size_t length,
                           Transport::write_callback_fn done) {
  calls_.Run(shared_from_this(), [this, descriptor, data, without, length,
                                  done = std::move(done)]() mutable {
    // TCP would send the bytes and drop the descriptor.
    if (!peer().has_value()) Fail(NoDescriptors());
    if (!failed()) writer_.AddBytesWith(descriptor, data, without, length);
    AddWrite(std::move(done));
  });
}

std::optional<UniqueFd> Connection::TakeDescriptor() {
  absl::MutexLock lock(&mu_);
  if (descriptors_.empty()) return std::nullopt;
  UniqueFd descriptor = std::move(descriptors_.front());
  descriptors_.pop_front();
  return descriptor;
}

// Serialised here, so that the packet need not outlive the call.
void Connection::Write(const AbstractNopHolder& packet,
                       Transport::write_callback_fn done) {
  std::vector<uint8_t> bytes(packet.getSize());
  tensorpipe::NopWriter writer{.ptr1 = bytes.data(), .len1 = bytes.size()};
  const bool written = !packet.write(writer).has_error() && writer.len1 == 0;
  calls_.Run(shared_from_this(), [this, written, bytes = std::move(bytes),
                                  done = std::move(done)]() mutable {
    if (!written || bytes.size() > max_packet_bytes_) {
      Fail(absl::ResourceExhaustedError(absl::StrCat("packet of ", bytes.size(),
                                                     " bytes to send, at most ",
                                                     max_packet_bytes_)));
    }
    if (absl::Status status = gate_.OnWrite(Text(bytes)); !status.ok()) {
      Fail(std::move(status));
    }
    if (!failed()) writer_.AddPacket(std::move(bytes));
    AddWrite(std::move(done));
  });
}

void Connection::Close() {
  absl::ReleasableMutexLock lock(&mu_);
  if (over_) return;
  // The loop is there until this is over. A call that runs at once may come
  // back to what the lock guards.
  if (loop_->OnLoopThread()) lock.Release();
  calls_.Run(shared_from_this(), [this] {
    hold_read_errors_ = false;
    Fail(absl::CancelledError("connection closed"));
    Progress();
  });
}

std::optional<PeerProcess> Connection::peer() const {
  absl::MutexLock lock(&mu_);
  return peer_;
}

std::string Connection::WhatMayGoAhead() const {
  return writer_.FirstPackets(gate_.opening_packets());
}

void Connection::Open(Opening opening) {
  if (failed()) return;
  abandon_ = nullptr;
  {
    absl::MutexLock lock(&mu_);
    peer_ = opening.peer;
  }
  hold_read_errors_ = !opening.read_ahead.empty();
  stash_ = std::move(opening.read_ahead);
  sent_ahead_ = opening.sent_ahead;
  stream_ = std::move(opening.stream);
  // It is a unix socket, and its other end has proved the key.
  if (opening.peer.has_value()) stream_->TakeDescriptors();
  // There may be bytes already of which no event tells any more.
  readable_ = writable_ = true;
  auto watch = loop_->Watch(stream_->fd(), kUsualEvents, shared_from_this());
  if (!watch.ok()) return Fail(std::move(watch).status());
  watch_ = *watch;
  Progress();
}

void Connection::Fail(absl::Status why) {
  if (failed()) return;
  status_ = std::move(why);
  if (stream_ != nullptr) loop_->Unwatch(watch_);
  stream_ = nullptr;
  stash_ = {};
  std::deque<UniqueFd> nobody_took;
  {
    absl::MutexLock lock(&mu_);
    nobody_took.swap(descriptors_);
  }
  for (UniqueFd& descriptor : nobody_took) {
    CloseElsewhere(std::move(descriptor));
  }
  if (auto abandon = std::exchange(abandon_, nullptr)) abandon();
  owner_->OnOver(this);
  Progress();
}

void Connection::OnReady(uint32_t events) {
  constexpr uint32_t kOver = EPOLLERR | EPOLLHUP;
  if (events & (kOver | EPOLLRDHUP)) peer_gone_ = true;
  if (events & (EPOLLIN | EPOLLRDHUP | kOver)) readable_ = true;
  if (events & (EPOLLOUT | kOver)) writable_ = true;
  Progress();
  if (writer_.empty()) AwaitRoom(false);
}

void Connection::AwaitRoom(bool await) {
  if (failed() || awaits_room_ == await) return;
  awaits_room_ = await;
  absl::Status status =
      loop_->Rewatch(watch_, kUsualEvents | (await ? EPOLLOUT : 0u));
  if (!status.ok()) Fail(std::move(status));
}

void Connection::AddRead(PendingRead read) {
  if (!failed()) {
    if (read.data != nullptr) {
      reader_.ExpectBytes(read.data, read.length);
    } else {
      reader_.ExpectAny(read.packet != nullptr ? FrameKind::kPacket
                                               : FrameKind::kBytes);
    }
  }
  reads_.push_back(std::move(read));
  Soon();
}

void Connection::AddWrite(Transport::write_callback_fn done) {
  writes_.push_back(std::move(done));
  Soon();
}

// The first few calls of a turn go straight to the socket, which is quickest;
// more of them are taken together.
void Connection::Soon() {
  if (progressing_) return;  // and looks again
  if (direct_ < kDirectPerTurn) {
    ++direct_;
    return Progress();
  }
  if (std::exchange(turn_posted_, true)) return;
  loop_->Post([self = shared_from_this()] {
    self->turn_posted_ = false;
    self->direct_ = 0;
    self->Progress();
  });
}

void Connection::Progress() {
  if (progressing_) return;
  progressing_ = true;
  auto self = shared_from_this();
  int steps = 0;
  while (Step()) {
    if (failed() || ++steps < kStepsPerTurn) continue;
    loop_->Post([self] { self->Progress(); });
    break;
  }
  progressing_ = false;
}

bool Connection::Step() {
  if (failed()) return CallBackFailed();
  if (stream_ == nullptr) return false;
  const bool flushed = Flush();
  const bool received = Receive();
  return flushed || received || NoticeEnd();
}

bool Connection::CallBackFailed() {
  if (!hold_read_errors_) {
    absl::MutexLock lock(&mu_);
    over_ = true;
  }
  const Error error = ToTensorpipeError(status_);
  bool called = false;
  while (!reads_.empty() && !hold_read_errors_) {
    PendingRead read = std::move(reads_.front());
    reads_.pop_front();
    called = true;
    if (read.packet != nullptr) {
      CallBack(std::move(read.packet_done), error);
    } else {
      CallBack(std::move(read.done), error, read.data, read.length);
    }
  }
  while (!writes_.empty()) {
    auto done = std::move(writes_.front());
    writes_.pop_front();
    called = true;
    CallBack(std::move(done), error);
  }
  return called;
}

bool Connection::Flush() {
  if (failed() || !writable_ || writer_.empty()) return false;
  if (sent_ahead_ > 0) {
    OnSent(std::exchange(sent_ahead_, 0));
    return true;
  }
  iovec buffers[kBuffersPerCall];
  const int count = writer_.Next(buffers, kBuffersPerCall);
  const int descriptor = writer_.NextDescriptor();
  ByteStream::Result sent =
      descriptor < 0 ? stream_->Write(buffers, count)
                     : stream_->WriteWith(descriptor, buffers, count);
  switch (sent.state) {
    case ByteStream::State::kBlocked:
      writable_ = false;
      AwaitRoom(true);
      return failed();
    case ByteStream::State::kEnd:
    case ByteStream::State::kFailed:
      Fail(std::move(sent.status));
      return true;
    case ByteStream::State::kNoDescriptor:
      writer_.DropDescriptor();
      return true;
    case ByteStream::State::kOk:
      break;
  }
  OnSent(sent.bytes);
  return true;
}

void Connection::OnSent(size_t bytes) {
  for (int through = writer_.Sent(bytes); through > 0; --through) {
    if (failed()) break;  // in a callback: the others are told of it
    auto done = std::move(writes_.front());
    writes_.pop_front();
    CallBack(std::move(done), Error::kSuccess);
  }
}

bool Connection::Receive() {
  if (failed()) return false;
  bool moved = TakeStash();
  if (broken_.ok() && stash_.empty()) moved |= ReceiveMore();
  // What came before a broken frame is good.
  while (!failed() && reader_.has_frame()) {
    Deliver();
    moved = true;
  }
  if (!failed() && !broken_.ok()) Broken(broken_);
  return moved || failed();
}

bool Connection::TakeStash() {
  if (stash_.empty() || !reader_.expecting()) return false;
  auto taken =
      reader_.Take(stash_.data() + stash_used_, stash_.size() - stash_used_);
  if (!taken.ok()) {
    broken_ = std::move(taken).status();
    return true;
  }
  stash_used_ += *taken;
  if (stash_used_ == stash_.size()) {
    stash_ = {};
    stash_used_ = 0;
  }
  return true;
}

bool Connection::ReceiveMore() {
  if (!readable_ || !reader_.expecting()) return false;
  static thread_local std::vector<uint8_t> scratch(kScratchBytes);
  iovec buffers[kBuffersPerCall];
  int count = reader_.Next(buffers, kBuffersPerCall);
  const bool in_place = count > 0;
  if (!in_place) buffers[count++] = {scratch.data(), scratch.size()};
  ByteStream::Result got = stream_->Read(buffers, count);
  switch (got.state) {
    case ByteStream::State::kBlocked:
      readable_ = false;
      return false;
    case ByteStream::State::kEnd:
      Fail(absl::UnavailableError("the peer closed the connection"));
      return true;
    case ByteStream::State::kFailed:
    case ByteStream::State::kNoDescriptor:  // only of writing
      Broken(std::move(got.status));
      return true;
    case ByteStream::State::kOk:
      break;
  }
  if (!got.descriptors.empty()) {
    absl::Status kept = Keep(std::move(got.descriptors));
    if (!kept.ok()) {
      Broken(std::move(kept));
      return true;
    }
  }
  // The next byte, or the end if it has not come yet, is a new event.
  if (got.drained && !peer_gone_) readable_ = false;
  if (in_place) {
    broken_ = reader_.Received(got.bytes);
    return true;
  }
  auto taken = reader_.Take(scratch.data(), got.bytes);
  if (!taken.ok()) {
    broken_ = std::move(taken).status();
    return true;
  }
  stash_.assign(scratch.begin() + static_cast<ptrdiff_t>(*taken),
                scratch.begin() + static_cast<ptrdiff_t>(got.bytes));
  return true;
}

// Before the bytes that they came with are seen.
absl::Status Connection::Keep(std::vector<UniqueFd> descriptors) {
  absl::MutexLock lock(&mu_);
  for (UniqueFd& descriptor : descriptors) {
    descriptors_.push_back(std::move(descriptor));
  }
  if (descriptors_.size() <= kMostDescriptorsWaiting) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the peer sent ", descriptors_.size(),
                                          " descriptors that nobody took"));
}

// Notices a peer that has gone while no read is pending, which would find out.
bool Connection::NoticeEnd() {
  if (!peer_gone_ || reader_.expecting() || !stash_.empty() ||
      !stream_->AtEnd()) {
    return false;
  }
  Fail(absl::UnavailableError("the peer closed the connection"));
  return true;
}

void Connection::Deliver() {
  std::vector<uint8_t> body = reader_.TakeFrame();
  if (reads_.front().packet != nullptr) {
    absl::Status status = ReadPacket(body, *reads_.front().packet);
    if (!status.ok()) return Broken(std::move(status));
  }
  PendingRead read = std::move(reads_.front());
  reads_.pop_front();
  hold_read_errors_ = false;
  if (read.packet != nullptr) {
    CallBack(std::move(read.packet_done), Error::kSuccess);
  } else if (read.data != nullptr) {
    CallBack(std::move(read.done), Error::kSuccess, read.data, read.length);
  } else {
    CallBack(std::move(read.done), Error::kSuccess, body.data(), body.size());
  }
}

absl::Status Connection::ReadPacket(const std::vector<uint8_t>& body,
                                    AbstractNopHolder& packet) {
  FERRY_RETURN_IF_ERROR(gate_.OnRead(Text(body)));
  tensorpipe::NopReader reader{.ptr1 = body.data(),
                               .len1 = body.size(),
                               .ptr2 = Guard(),
                               .len2 = kGuardBytes};
  bool bad = true;
  absl::Status thrown = CatchExceptions(
      absl::StrCat("tensorpipe, reading a packet of ", body.size(), " bytes,"),
      [&] { bad = packet.read(reader).has_error(); });
  if (absl::IsResourceExhausted(thrown)) return thrown;
  if (bad || reader.len1 + reader.len2 != kGuardBytes) {
    return absl::DataLossError(
        absl::StrCat("a malformed packet of ", body.size(), " bytes",
                     thrown.ok() ? "" : ": ", std::string(thrown.message())));
  }
  return absl::OkStatus();
}

void Connection::Broken(absl::Status why) {
  if (absl::IsDataLoss(why)) owner_->OnBrokenFrame();
  Fail(std::move(why));
}

template <class Callback, class... Args>
void Connection::CallBack(Callback callback, const Args&... args) {
  absl::Status thrown =
      CatchExceptions("tensorpipe, in a callback,", [&] { callback(args...); });
  if (!thrown.ok()) owner_->OnThrown(std::move(thrown));
}

std::shared_ptr<tensorpipe::transport::Connection> MakeHandle(
    std::shared_ptr<Connection> connection) {
  return std::make_shared<Handle>(std::move(connection));
}

std::optional<PeerProcess> PeerProcessOf(
    const tensorpipe::transport::Connection& connection) {
  const Connection* ours = Behind(connection);
  if (ours == nullptr) return std::nullopt;
  return ours->peer();
}

absl::Status CarriesDescriptors(
    const tensorpipe::transport::Connection& connection) {
  if (PeerProcessOf(connection).has_value()) return absl::OkStatus();
  return NoDescriptors();
}

void WriteWithDescriptor(
    tensorpipe::transport::Connection& connection, int descriptor,
    const void* data, const void* without, size_t length,
    tensorpipe::transport::Connection::write_callback_fn done) {
  Behind(connection)
      ->WriteWith(descriptor, data, without, length, std::move(done));
}

std::optional<UniqueFd> TakeDescriptor(
    const tensorpipe::transport::Connection& connection) {
  Connection* ours = Behind(connection);
  if (ours == nullptr) return std::nullopt;
  return ours->TakeDescriptor();
}

}  // namespace tensorferry
