#include "channel/buffer_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "channel/channel_error.h"
#include "channel/streaming_copy.h"

namespace tensorferry {
namespace {

using Kind = LocalFrame::Kind;

// One system call moves no more.
constexpr uint64_t kMaxPieceBytes = uint64_t{1} << 30;
constexpr uint64_t kStreamPieceBytes = uint64_t{4} << 20;
constexpr uint64_t kReadAlongBytes = uint64_t{256} << 10;
// After each the peer is told: it costs a frame, and on the copier a task of
// the loop.
constexpr uint64_t kStepOnLoopBytes = uint64_t{256} << 10;
constexpr uint64_t kStepBytes = uint64_t{1} << 20;

absl::StatusOr<PeerMemory> Prove(const std::optional<PeerProcess>& process,
                                 const LocalFrame& hello) {
  if (hello.address == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer says: ", hello.reason));
  }
  if (!process) {
    return absl::FailedPreconditionError(
        "the connection does not tell which process is the peer");
  }
  return PeerMemory::Prove(*process, hello.address, hello.nonce);
}

// Part by part, so that the reader finds each in the caches.
absl::Status ReadAlong(const PeerMemory& memory,
                       const WantedBuffers::Copy& copy, CopyReader* reader) {
  if (reader == nullptr) return memory.Read(copy.from, copy.to, copy.length);
  auto* const to = static_cast<std::byte*>(copy.to);
  for (uint64_t at = 0; at < copy.length; at += kReadAlongBytes) {
    const uint64_t part = std::min(kReadAlongBytes, copy.length - at);
    FERRY_RETURN_IF_ERROR(memory.Read(copy.from + at, to + at, part));
    reader->Read(to + at, part);
  }
  return absl::OkStatus();
}

uint64_t CopyBytes(const LocalChannelOptions& options) {
  return std::clamp(options.piece_bytes, uint64_t{1}, kMaxPieceBytes);
}

}  // namespace

BufferExchange::BufferExchange(
    std::shared_ptr<ChannelSession> session,
    std::shared_ptr<tensorpipe::transport::Connection> connection)
    : session_(std::move(session)),
      connection_(std::move(connection)),
      offered_(kStreamPieceBytes, CopyBytes(session_->options())),
      wanted_(CopyBytes(session_->options())) {}

void BufferExchange::Start() {
  const bool open = session_->Enter(shared_from_this());
  Post([](BufferExchange& self) {
    LocalFrame hello;
    hello.reason = self.nonce_.status().ok()
                       ? self.session_->why_unreadable()
                       : std::string(self.nonce_.status().message());
    if (hello.reason.empty()) {
      hello.address = self.nonce_.address();
      hello.nonce = self.nonce_.value();
    }
    self.WriteFrame(hello);
    self.ReadFrame();
  });
  if (!open) Close();
}

void BufferExchange::Send(const void* data, uint64_t length,
                          Callback callback) {
  Post([=, callback = std::move(callback)](BufferExchange& self) {
    self.sends_.callbacks.push_back(callback);
    if (self.failed()) return;
    const bool hold = self.session_->options().lent && !self.greeted_;
    if (hold) return self.held_.push_back({data, length});
    self.Offer(data, length);
  });
}

void BufferExchange::Receive(void* data, uint64_t length, Callback callback) {
  Post([=, callback = std::move(callback)](BufferExchange& self) {
    self.receives_.callbacks.push_back(callback);
    if (self.failed()) return;
    self.wanted_.Add(data, length, self.PlaceFor(data, length));
    self.Advance();
  });
}

void BufferExchange::Close() {
  Post([](BufferExchange& self) {
    self.Fail(absl::CancelledError("local channel: closed"));
  });
}

// Everything comes in through here.
void BufferExchange::Post(std::function<void(BufferExchange&)> task) {
  session_->options().loop->Run(
      [self = shared_from_this(), task = std::move(task)] {
        task(*self);
        self->Settle();
      });
}

// For an operation of the connection. `then` runs also after an error.
BufferExchange::Callback BufferExchange::OnLoop(
    std::function<void(BufferExchange&)> then) {
  ++pending_;
  return [self = shared_from_this(),
          then = std::move(then)](const tensorpipe::Error& error) {
    self->Post([then, error](BufferExchange& self) {
      --self.pending_;
      if (error) self.Fail(error);
      then(self);
    });
  };
}

void BufferExchange::WriteFrame(const LocalFrame& frame) {
  auto bytes = std::make_shared<LocalFrameBytes>(EncodeLocalFrame(frame));
  connection_->write(bytes->data(), bytes->size(),
                     OnLoop([bytes](BufferExchange&) {}));
}

void BufferExchange::WritePiece(const OfferedBuffers::Piece& piece) {
  WriteFrame(piece.header);
  ++sends_.in_use;
  connection_->write(piece.data, piece.header.length,
                     OnLoop([](BufferExchange& self) {
                       --self.sends_.in_use;
                       if (self.failed()) return;
                       self.offered_.OnPieceWritten();
                       self.Advance();
                     }));
}

void BufferExchange::Read(void* to, uint64_t length,
                          std::function<void(BufferExchange&)> then) {
  connection_->read(
      to, length,
      [done = OnLoop(std::move(then))](const tensorpipe::Error& error,
                                       const void*, size_t) { done(error); });
}

void BufferExchange::ReadFrame() {
  Read(incoming_.data(), incoming_.size(),
       [](BufferExchange& self) { self.OnFrame(); });
}

void BufferExchange::OnFrame() {
  if (failed()) return;
  const absl::StatusOr<LocalFrame> frame = DecodeLocalFrame(
      {reinterpret_cast<const char*>(incoming_.data()), incoming_.size()});
  absl::Status status = frame.ok() ? Handle(*frame) : frame.status();
  if (!status.ok()) return Fail(status);
  // Of DATA: behind the piece. An arena has to be opened first.
  if (frame->kind != Kind::kArena && frame->kind != Kind::kLend) ReadFrame();
  Advance();
}

absl::Status BufferExchange::Handle(const LocalFrame& frame) {
  if (greeted_ == (frame.kind == Kind::kHello)) {
    return absl::DataLossError(
        "local channel: the peer says HELLO not at first, or twice");
  }
  switch (frame.kind) {
    case Kind::kHello:
      OnHello(frame);
      break;
    case Kind::kOffer:
    case Kind::kLoan:
      return wanted_.OnOffer(frame);
    case Kind::kDone:
    case Kind::kStream:
    case Kind::kWant:
    case Kind::kLeased:
      return offered_.OnAnswer(frame);
    case Kind::kData:
      return ReadData(frame);
    case Kind::kArena:
      return OpenArena(places_[frame.arena], frame,
                       [arenas = session_->mapped_arenas()](UniqueFd descriptor,
                                                            uint64_t nbytes) {
                         return arenas->Map(std::move(descriptor), nbytes);
                       });
    case Kind::kLend:
      return OpenArena(leased_from_[frame.arena], frame, LentArena::Take);
    case Kind::kPlacing:
      return wanted_.OnPlacing(frame);
    case Kind::kPlaced:
      return wanted_.OnPlaced(frame);
    case Kind::kCannot:
      return OnCannot(frame);
  }
  return absl::OkStatus();
}

void BufferExchange::OnHello(const LocalFrame& hello) {
  greeted_ = true;
  const LocalChannelOptions& options = session_->options();
  std::optional<PeerProcess> process;
  if (options.peer_of) process = options.peer_of(*connection_);
  if (options.descriptors.carried_by) {
    no_pool_ = options.descriptors.carried_by(*connection_);
  }
  for (const Held& held : std::exchange(held_, {})) {
    Offer(held.data, held.length);
  }
  RunOnCopier(
      reading_, [process, hello] { return Prove(process, hello); },
      [](BufferExchange& self, const auto& proof) { self.OnProof(proof); });
}

void BufferExchange::OnProof(const absl::StatusOr<PeerMemory>& proof) {
  memory_ = proof;
  Advance();
}

absl::Status BufferExchange::ReadData(const LocalFrame& data) {
  FERRY_ASSIGN_OR_RETURN(void* to, wanted_.OnData(data));
  ++receives_.in_use;
  Read(to, data.length, [](BufferExchange& self) {
    --self.receives_.in_use;
    if (self.failed()) return;
    self.wanted_.OnDataRead();
    self.Advance();
  });
  return absl::OkStatus();
}

void BufferExchange::Advance() {
  if (failed()) return;
  while (auto piece = offered_.NextPiece()) WritePiece(*piece);
  absl::Status status = PlaceNext();
  if (status.ok() && memory_) status = TakeSteps();
  if (!status.ok()) return Fail(status);
  ReadNext();
}

absl::Status BufferExchange::TakeSteps() {
  while (true) {
    const absl::Status& vm =
        session_->refused().ok() ? memory_->status() : session_->refused();
    FERRY_ASSIGN_OR_RETURN(WantedBuffers::Step step,
                           wanted_.NextStep(no_pool_, vm));
    if (step.empty()) return absl::OkStatus();
    if (step.lease) FERRY_RETURN_IF_ERROR(StartLease(*step.lease));
    if (step.want) FERRY_RETURN_IF_ERROR(Want(*step.want));
    if (step.answer) WriteFrame(*step.answer);
    if (step.copy) StartCopy(*step.copy);
  }
}

// ---- the receiver's pool

WantedBuffers::Place BufferExchange::PlaceFor(const void* data,
                                              uint64_t length) const {
  const LocalChannelOptions& options = session_->options();
  WantedBuffers::Place place;
  place.lease = options.leases != nullptr && options.leases->Has(data, length);
  place.pool = options.pool != nullptr && options.descriptors.write &&
               length >= options.pool_from_bytes &&
               options.pool->PlaceOf(data, length).has_value();
  return place;
}

absl::Status BufferExchange::Want(const WantedBuffers::Open& buffer) {
  LocalFrame frame{
      .kind = Kind::kWant, .number = buffer.number, .length = buffer.length};
  const auto place =
      session_->options().pool->PlaceOf(buffer.data, buffer.length);
  const auto arena =
      place ? HandOver(Kind::kArena, place->arena, absl::MakeSpan(handed_over_))
            : std::nullopt;
  if (!place) {
    frame.reason = "the buffer's arena is retired";
  } else if (!arena) {
    frame.reason = absl::StrCat("the peer has all of the ", kMostArenas,
                                " arenas that one channel may hand over");
  } else {
    frame.reason = handed_over_[*arena].cannot;
  }
  if (!frame.reason.empty()) {
    frame.kind = Kind::kCannot;
    return wanted_.OnCannot(frame).status();
  }
  frame.arena = *arena;
  frame.address = place->offset;
  WriteFrame(frame);
  if (auto reader = ReaderOf(CopyWay::kFromPeer, buffer.data, buffer.length)) {
    wanted_.ReadAlong(buffer.number, std::move(reader));
  }
  return absl::OkStatus();
}

// Where the peer has it; nullopt: it has no place for one more. What lies in an
// arena that is gone nobody waits for any more.
std::optional<uint8_t> BufferExchange::HandOver(
    Kind how, std::shared_ptr<const Arena> arena,
    absl::Span<HandedOver> places) {
  const auto has = [&arena](const HandedOver& other) {
    return other.arena.lock() == arena;
  };
  const auto gone = [](const HandedOver& other) {
    return other.arena.expired();
  };
  auto place = std::find_if(places.begin(), places.end(), has);
  const bool known = place != places.end();
  if (!known) place = std::find_if(places.begin(), places.end(), gone);
  if (place == places.end()) return std::nullopt;
  const auto number = static_cast<uint8_t>(place - places.begin());
  if (!known) {
    *place = {.arena = arena};
    WriteWithArena({.kind = how, .arena = number, .length = arena->nbytes()},
                   arena);
  }
  return number;
}

void BufferExchange::WriteWithArena(LocalFrame frame,
                                    std::shared_ptr<const Arena> arena) {
  auto with = std::make_shared<LocalFrameBytes>(EncodeLocalFrame(frame));
  frame.reason = "its peer's system does not let the descriptor go";
  auto without = std::make_shared<LocalFrameBytes>(EncodeLocalFrame(frame));
  const int descriptor = arena->descriptor();
  session_->options().descriptors.write(
      *connection_, descriptor, with->data(), without->data(), with->size(),
      OnLoop([with, without, arena = std::move(arena)](BufferExchange&) {}));
}

// Other arenas may do: what the peer lacks it may have by then, and this one
// may be retired, with its free pages gone.
absl::Status BufferExchange::OnCannot(const LocalFrame& cannot) {
  FERRY_ASSIGN_OR_RETURN(const WantedBuffers::Open buffer,
                         wanted_.OnCannot(cannot));
  const auto place =
      session_->options().pool->PlaceOf(buffer.data, buffer.length);
  for (HandedOver& other : handed_over_) {
    if (place && other.arena.lock() == place->arena) {
      other.cannot = cannot.reason;
    }
  }
  return absl::OkStatus();
}

// What the peer has placed so far. While it is asked for no more than is copied
// on its loop, on the loop as well.
void BufferExchange::ReadNext() {
  const auto arrived = wanted_.NextArrived();
  if (!arrived) return;
  BeginCopy(receives_);
  auto read = [arrived = *arrived] {
    arrived.reader->Read(arrived.data, arrived.length);
    return absl::OkStatus();
  };
  const auto then = [](BufferExchange& self, const auto& status) {
    self.OnRead(status);
  };
  if (wanted_.nbytes() <= session_->options().copy_on_loop_bytes) {
    RunHere(std::move(read), then);
  } else {
    RunOnCopier(along_, std::move(read), then);
  }
}

void BufferExchange::OnRead(const absl::Status& status) {
  EndCopy(receives_);
  if (failed()) return;
  if (!status.ok()) return Fail(status);
  wanted_.OnRead();
  Advance();
}

// What the peer may still write to is not the user's any more.
void BufferExchange::FenceOpenBuffers() {
  wanted_.ForEachOpenToPeer([this](const WantedBuffers::Open& buffer) {
    // See MakeLocalChannel.
    session_->options().pool->Fence(buffer.data, buffer.length).IgnoreError();
  });
}

// ---- the peer's arenas

// `open` makes of the descriptor and the length what the peer's arena is here.
// It blocks: not on the loop. The next frame is read after it, so that a peer
// cannot have more descriptors open here than wait in the connection.
template <class PeersArena, class Open>
absl::Status BufferExchange::OpenArena(ArenaPlace<PeersArena>& place,
                                       const LocalFrame& frame, Open open) {
  LetGo(place);
  absl::StatusOr<UniqueFd> descriptor = TakeDescriptor(frame);
  if (absl::IsDataLoss(descriptor.status())) return descriptor.status();
  if (!descriptor.ok()) {
    place = descriptor.status();
    ReadFrame();
    return absl::OkStatus();
  }
  RunOnCopier(
      opening_,
      [descriptor = *std::move(descriptor), nbytes = frame.length,
       open]() mutable { return open(std::move(descriptor), nbytes); },
      [&place](BufferExchange& self, const auto& opened) {
        if (self.failed()) return;  // nothing was written to it
        place = opened;
        self.ReadFrame();
        self.Advance();
      });
  return absl::OkStatus();
}

// DATA_LOSS: none came with the frame; others: why it cannot be had.
absl::StatusOr<UniqueFd> BufferExchange::TakeDescriptor(
    const LocalFrame& frame) {
  const DescriptorPassing& descriptors = session_->options().descriptors;
  if (!descriptors.take) {
    return absl::FailedPreconditionError("it takes no descriptors");
  }
  if (!frame.reason.empty()) {
    return absl::FailedPreconditionError(frame.reason);
  }
  std::optional<UniqueFd> descriptor = descriptors.take(*connection_);
  if (!descriptor) {
    return absl::DataLossError(
        "local channel: the peer hands over an arena without its descriptor");
  }
  if (!descriptor->valid()) {
    return absl::ResourceExhaustedError(
        "the arena's descriptor could not come: the process has as many open "
        "as it may (ulimit -n), or the system refuses it");
  }
  return *std::move(descriptor);
}

// Milliseconds where pages are small: not on the loop.
template <class PeersArena>
void BufferExchange::LetGo(ArenaPlace<PeersArena>& place) {
  if (!place || !place->ok()) return;
  session_->options().copier->Run([arena = **std::move(place)] {});
  place.reset();
}

// ---- leases

void BufferExchange::Offer(const void* data, uint64_t length) {
  const auto offer = offered_.Add(data, length, LoanOf(data, length));
  if (offer) WriteFrame(*offer);
}

// Where the peer can have it, which is told of its arena before, or why it
// cannot; nullopt: it is not lent.
std::optional<absl::StatusOr<OfferedBuffers::Loan>> BufferExchange::LoanOf(
    const void* data, uint64_t length) {
  const LocalChannelOptions& options = session_->options();
  if (!options.lent || !options.descriptors.write) return std::nullopt;
  const std::optional<BufferPool::Place> place = options.lent(data, length);
  if (!place) return std::nullopt;
  if (!no_pool_.ok()) return no_pool_;
  const std::optional<uint8_t> at =
      HandOver(Kind::kLend, place->arena, absl::MakeSpan(lent_));
  if (!at) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer has all of the ", kMostLentArenas,
                     " arenas that one channel may lend"));
  }
  return OfferedBuffers::Loan{*at, place->offset};
}

absl::Status BufferExchange::CheckLoan(const WantedBuffers::Lease& lease,
                                       uint64_t nbytes) {
  if (lease.offset % kPageBytes == 0 && lease.offset <= nbytes &&
      lease.length <= nbytes - lease.offset) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      "local channel: the peer lends ", lease.length, " bytes at ",
      lease.offset, " of its arena ", static_cast<int>(lease.arena),
      ", which has ", nbytes, " in pages of ", kPageBytes));
}

absl::Status BufferExchange::StartLease(const WantedBuffers::Lease& lease) {
  const ArenaPlace<const LentArena>& place = leased_from_[lease.arena];
  if (!place) {
    return absl::DataLossError(
        absl::StrCat("local channel: the peer lends what lies in its arena ",
                     static_cast<int>(lease.arena), ", which it has not lent"));
  }
  if (!place->ok()) {
    wanted_.OnLeaseRefused(place->status());
    return absl::OkStatus();
  }
  const std::shared_ptr<const LentArena> arena = **place;
  FERRY_RETURN_IF_ERROR(CheckLoan(lease, arena->nbytes()));
  BeginCopy(receives_);
  RunOnCopier(
      reading_,
      [arena, lease] {
        return arena->MapAt(static_cast<std::byte*>(lease.to), lease.length,
                            lease.offset);
      },
      [](BufferExchange& self, const auto& mapped) { self.OnLeased(mapped); });
  return absl::OkStatus();
}

void BufferExchange::OnLeased(const absl::Status& status) {
  EndCopy(receives_);
  if (failed()) return;
  if (status.ok()) {
    WriteFrame(wanted_.OnLeased());
  } else {
    wanted_.OnLeaseRefused(status);
  }
  Advance();
}

// One piece at a time.
absl::Status BufferExchange::PlaceNext() {
  while (const auto copy = offered_.NextCopy()) {
    const ArenaPlace<PeerArena>& place = places_[copy->arena];
    if (place && !place->ok()) {
      WriteFrame(offered_.OnCannotCopy(place->status()));
      continue;
    }
    FERRY_RETURN_IF_ERROR(CheckPlace(*copy));
    StartPlacing(**place, *copy);
  }
  return absl::OkStatus();
}

std::shared_ptr<CopyReader> BufferExchange::ReaderOf(CopyWay way,
                                                     const void* data,
                                                     uint64_t length) const {
  const auto& reader_of = session_->options().reader_of;
  return reader_of ? reader_of(way, data, length) : nullptr;
}

void BufferExchange::StartPlacing(std::shared_ptr<PeerArena> arena,
                                  const OfferedBuffers::Copy& copy) {
  const LocalChannelOptions& options = session_->options();
  const bool here = offered_.nbytes() <= options.copy_on_loop_bytes;
  BeginCopy(sends_);
  auto place = [this, here, arena = std::move(arena), copy,
                reader = ReaderOf(CopyWay::kToPool, copy.from, copy.length)] {
    CopyInSteps(*arena, copy, reader.get(), here);
    return absl::OkStatus();
  };
  const auto then = [](BufferExchange& self, const auto& placed) {
    self.OnPlaced(placed);
  };
  if (here) {
    RunHere(std::move(place), then);
  } else {
    RunOnCopier(placing_, std::move(place), then);
  }
}

// If the peer reads all of it, it is told after each step but the last how far
// this is: it reads meanwhile. On the loop or the copier; pending_ keeps this.
void BufferExchange::CopyInSteps(PeerArena& arena,
                                 const OfferedBuffers::Copy& copy,
                                 CopyReader* reader, bool on_loop) {
  const bool is_read = session_->options().is_read_at_once;
  const bool is_long =
      copy.length >= (is_read ? kPastCachesIfRead : kPastCaches);
  const Caches caches = is_long ? Caches::kPassed : Caches::kUsed;
  const uint64_t step = !is_read  ? copy.length
                        : on_loop ? kStepOnLoopBytes
                                  : kStepBytes;
  const auto* from = static_cast<const std::byte*>(copy.from);
  for (uint64_t at = 0; at < copy.length; at += step) {
    const uint64_t part = std::min(step, copy.length - at);
    StreamingCopy(arena.data() + copy.offset + at, from + at, part, caches,
                  reader);
    if (at + part == copy.length) return;
    LocalFrame placing{.kind = Kind::kPlacing,
                       .number = copy.number,
                       .length = copy.before + at + part};
    if (on_loop) {
      WriteFrame(placing);
    } else {
      Post([placing](BufferExchange& self) {
        if (!self.failed()) self.WriteFrame(placing);
      });
    }
  }
}

absl::Status BufferExchange::CheckPlace(
    const OfferedBuffers::Copy& copy) const {
  const ArenaPlace<PeerArena>& place = places_[copy.arena];
  const uint64_t nbytes = place ? (**place)->nbytes() : 0;
  if (copy.offset <= nbytes && copy.length <= nbytes - copy.offset) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      "local channel: the peer wants ", copy.length, " bytes at ", copy.offset,
      " of its arena ", static_cast<int>(copy.arena), ", which has ", nbytes));
}

void BufferExchange::OnPlaced(const absl::Status& status) {
  EndCopy(sends_);
  if (failed()) return;
  if (!status.ok()) return Fail(status);
  if (auto placed = offered_.OnCopied()) WriteFrame(*placed);
  Advance();
}

// ---- the copier

// `work` on the copier, `then` with what it yields on the loop. What `work`
// holds is let go of on the copier, too.
template <class Work, class Then>
void BufferExchange::RunOnCopier(CopierTask& task, Work work, Then then) {
  ++pending_;
  task.claimed = std::make_shared<std::atomic<bool>>(false);
  session_->options().copier->Run([weak = weak_from_this(),
                                   claimed = task.claimed,
                                   work = std::move(work), then]() mutable {
    if (claimed->exchange(true)) return;
    auto self = weak.lock();  // pending_ keeps it
    decltype(work()) yield;
    absl::Status thrown =
        CatchExceptions("local channel: the copier", [&] { yield = work(); });
    if (!thrown.ok()) yield = std::move(thrown);
    self->Post([then, yield = std::move(yield)](BufferExchange& self) {
      --self.pending_;
      then(self, yield);
    });
  });
}

// The same, now; `then` in a later turn, since others want the loop too.
template <class Work, class Then>
void BufferExchange::RunHere(Work work, Then then) {
  ++pending_;
  Post([then, yield = work()](BufferExchange& self) {
    --self.pending_;
    then(self, yield);
  });
}

bool BufferExchange::GiveUp(CopierTask& task) {
  if (task.claimed->exchange(true)) return false;
  --pending_;
  return true;
}

// What waits in line does not begin any more, and nobody waits for it: a peer
// can hold up the copier for longer than anything may take.
void BufferExchange::GiveUpQueued() {
  if (GiveUp(reading_) && memory_) EndCopy(receives_);  // else it was the proof
  if (GiveUp(placing_)) EndCopy(sends_);
  if (GiveUp(along_)) EndCopy(receives_);
  GiveUp(opening_);
}

void BufferExchange::StartCopy(const WantedBuffers::Copy& copy) {
  BeginCopy(receives_);
  RunOnCopier(
      reading_,
      [memory = **memory_, copy,
       reader = ReaderOf(CopyWay::kFromPeer, copy.to, copy.length)] {
        return ReadAlong(memory, copy, reader.get());
      },
      [](BufferExchange& self, const auto& copied) { self.OnCopied(copied); });
}

void BufferExchange::BeginCopy(Direction& direction) {
  ++direction.in_use;
  const auto& on_copy = session_->options().on_copy;
  if (on_copy) on_copy(true);
}

void BufferExchange::EndCopy(Direction& direction) {
  --direction.in_use;
  const auto& on_copy = session_->options().on_copy;
  if (on_copy) on_copy(false);
}

void BufferExchange::OnCopied(const absl::Status& status) {
  EndCopy(receives_);
  if (failed()) return;
  if (absl::IsNotFound(status)) {
    wanted_.OnCopyRefused(status);
  } else if (absl::IsFailedPrecondition(status)) {
    session_->Refuse(status);
    wanted_.OnCopyRefused(status);
  } else if (!status.ok()) {
    return Fail(status);
  } else if (auto done = wanted_.OnCopied()) {
    WriteFrame(*done);
  }
  Advance();
}

void BufferExchange::Fail(const absl::Status& status) {
  Fail(LocalChannelError(status));
}

void BufferExchange::Fail(const tensorpipe::Error& error) {
  if (failed()) return;
  Settle();  // what has ended well
  error_ = error;
  nonce_.Erase();
  GiveUpQueued();
  // Now: the copier may be gone when its last task for this has come back.
  for (auto& place : places_) LetGo(place);
  for (auto& place : leased_from_) LetGo(place);
  FenceOpenBuffers();
  connection_->close();
}

// Calls back for what has ended. After a failure that is everything, direction
// by direction, once nothing touches its buffers any more.
void BufferExchange::Settle() {
  CallBack(sends_, offered_);
  CallBack(receives_, wanted_);
  if (!failed() || pending_ > 0 || left_) return;
  left_ = true;
  session_->Leave(this);
}

template <class Buffers>
void BufferExchange::CallBack(Direction& direction, Buffers& buffers) {
  while (!direction.callbacks.empty()) {
    std::optional<Carried> carried;
    if (!failed()) {
      carried = buffers.TakeEnded();
      if (!carried) return;
    } else if (direction.in_use > 0) {
      return;
    }
    const Callback callback = std::move(direction.callbacks.front());
    direction.callbacks.pop_front();
    if (carried && carried->length > 0 && session_->options().on_carried) {
      session_->options().on_carried(*std::move(carried));
    }
    Call(callback, error_);
  }
}

void BufferExchange::Call(const Callback& callback,
                          const tensorpipe::Error& error) {
  absl::Status thrown =
      CatchExceptions("local channel: tensorpipe", [&] { callback(error); });
  if (!thrown.ok() && session_->options().on_wedged) {
    session_->options().on_wedged(std::move(thrown));
  }
}

}  // namespace tensorferry
