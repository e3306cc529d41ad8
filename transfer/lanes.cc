#include "transfer/lanes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

constexpr absl::Duration kReopenWithin = absl::Seconds(5);
// A frame up to this goes in the message's metadata, which the transport reads
// in one step.
constexpr size_t kFrameInMetadata = 16 << 10;
constexpr size_t kFirstFrame = 64 << 10;
constexpr size_t kStrangersAllowed = 64;

// In a time that does not depend on where they differ.
bool EqualSecrets(absl::string_view a, absl::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  }
  return difference == 0;
}

}  // namespace

absl::Status CheckLoopback(absl::string_view address) {
  std::vector<absl::string_view> parts = absl::StrSplit(address, "://");
  size_t colon = parts.back().rfind(':');
  int port = 0;
  bool good =
      parts.size() == 2 && !parts[0].empty() &&
      absl::StartsWith(parts[1], "127.") && colon != absl::string_view::npos &&
      parts[1].find_first_not_of("0123456789.:") == absl::string_view::npos &&
      absl::SimpleAtoi(parts[1].substr(colon + 1), &port) && port > 0 &&
      port < 65536;
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", address,
                   "\": want TRANSPORT://127.x.x.x:PORT; data goes over "
                   "loopback only"));
}

Lanes::Lanes(Options options)
    : options_(std::move(options)),
      loop_(options_.loop),
      owner_(options_.owner),
      slots_(1 + std::max<uint32_t>(1, options_.rules.limits.body_lanes)) {}

std::string Lanes::NameOf(int index) const {
  return absl::StrCat(
      "lane ", index < 0 ? "?" : absl::StrCat(index), " to ",
      options_.rules.peer_name.empty() ? "the peer" : options_.rules.peer_name);
}

// ---- contexts, listening, dialing

absl::Status Lanes::AddContext() {
  FERRY_ASSIGN_OR_RETURN(
      LaneContext made,
      MakeLaneContext(*options_.backends, options_.rules.paths, without_,
                      options_.rules.session_id));
  contexts_.push_back(std::move(made));
  return absl::OkStatus();
}

absl::Status Lanes::Prepare() { return AddContext(); }

absl::StatusOr<std::string> Lanes::PrepareToAccept() {
  accepts_ = true;
  FERRY_RETURN_IF_ERROR(AddContext());
  FERRY_RETURN_IF_ERROR(Listen());
  return address_;
}

absl::Status Lanes::Listen() {
  const LaneContext& context = contexts_.back();
  try {
    listener_ = context.context->listen(
        {absl::StrCat(context.transport, "://", options_.listen, ":0")});
    address_ = listener_->url(context.transport);
    return absl::OkStatus();
  } catch (...) {
    return CurrentExceptionStatus(
        absl::StrCat("listening on ", options_.listen));
  }
}

void Lanes::Accept() { AcceptNext(); }

void Lanes::AcceptNext() {
  if (listener_ == nullptr) return;
  ++accepts_pending_;
  try {
    listener_->accept([this, listener = listener_.get()](
                          const tensorpipe::Error& error,
                          std::shared_ptr<tensorpipe::Pipe> pipe) {
      loop_->Post([this, listener, status = ToStatus(error, "accepting lanes"),
                   pipe = std::move(pipe)]() mutable {
        OnAccept(listener, std::move(status), std::move(pipe));
      });
    });
  } catch (...) {
    --accepts_pending_;
    broken_ = true;
    Fail(CurrentExceptionStatus("accepting lanes"));
  }
}

void Lanes::OnAccept(const tensorpipe::Listener* listener, absl::Status status,
                     std::shared_ptr<tensorpipe::Pipe> pipe) {
  --accepts_pending_;
  if (closing_) return MaybeClosed();
  bool current = listener == listener_.get();
  if (status.ok()) {
    if (current) AcceptNext();
    // A stranger too many is dropped with his pipe.
    if (connections_.size() < slots_.size() + kStrangersAllowed) {
      Open(std::move(pipe), contexts_.size() - 1, -1, 0);
    }
    return;
  }
  if (!current) return;
  // A connection that fails early ends tensorpipe's listener for good.
  listener_ = nullptr;
  if (!up_) return Fail(std::move(status));
  ListenForLostLanes();
}

void Lanes::StopListening() {
  if (listener_ == nullptr) return;
  try {
    listener_->close();
  } catch (...) {
    broken_ = true;
  }
  listener_ = nullptr;
  for (auto& [key, connection] : connections_) {
    if (connection.index < 0) {
      connection.lane->Close(absl::CancelledError("no lane is expected"));
    }
  }
}

Lanes::Connection& Lanes::Open(std::shared_ptr<tensorpipe::Pipe> pipe,
                               size_t context, int index, uint32_t generation) {
  auto lane = std::make_shared<Lane>(loop_, std::move(pipe), NameOf(index));
  Lane* key = lane.get();
  Connection& connection = connections_[key];
  connection = {lane, context, index, generation, false};
  Lane::Callbacks callbacks;
  callbacks.on_descriptor = [this, key](tensorpipe::Descriptor descriptor) {
    OnDescriptor(key, std::move(descriptor));
  };
  callbacks.on_ended = [this, key](absl::Status why, std::string refused) {
    OnEnded(key, std::move(why), refused);
  };
  lane->Start(std::move(callbacks));
  return connection;
}

void Lanes::Dial(const std::string& address) {
  for (int index = 0; index < static_cast<int>(slots_.size()); ++index) {
    if (!failed_ && !closing_) DialLane(index, 1, address);
  }
}

void Lanes::DialLane(int index, uint32_t generation,
                     const std::string& address) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  try {
    pipe = contexts_.back().context->connect(address);
  } catch (...) {
    return Fail(CurrentExceptionStatus(
        absl::StrCat(NameOf(index), ": connecting to ", address)));
  }
  Connection& connection =
      Open(std::move(pipe), contexts_.size() - 1, index, generation);
  slots_[index].dialing = connection.lane.get();
  HelloFrame hello = MakeHello(connection);
  hello.key = options_.key;
  Write(*connection.lane, std::move(hello), "", [](bool) {});
}

HelloFrame Lanes::MakeHello(const Connection& connection) const {
  HelloFrame hello;
  hello.session_id = options_.rules.session_id;
  hello.lane = connection.index;
  hello.generation = connection.generation;
  hello.wire_version = options_.rules.wire_version;
  hello.lanes = static_cast<uint32_t>(slots_.size());
  hello.channels = contexts_[connection.context].Describe();
  for (const auto& [path, why] : given_up_)
    hello.given_up.push_back({path, why});
  return hello;
}

// ---- what arrives

void Lanes::OnDescriptor(Lane* key, tensorpipe::Descriptor descriptor) {
  Connection& connection = connections_.at(key);
  if (connection.proved && connection.index > 0) {
    return OnBodyDescriptor(connection, std::move(descriptor));
  }
  if (connection.proved) {
    return ReadFrame(connection.lane, std::move(descriptor), true,
                     [this](absl::StatusOr<Frame> frame, std::string bytes) {
                       if (closing_) return;
                       if (!frame.ok()) return Fail(frame.status());
                       OnLaneFrame(*std::move(frame), std::move(bytes));
                     });
  }
  ReadFrame(connection.lane, std::move(descriptor), false,
            [this, key](absl::StatusOr<Frame> frame, std::string) {
              OnFirstFrame(key, std::move(frame));
            });
}

// A frame is the metadata, or the first payload if there is none; the bytes of
// an inline message are the payload after it.
absl::Status Lanes::CheckFrame(const tensorpipe::Descriptor& descriptor,
                               bool proved) const {
  const bool apart = descriptor.metadata.empty();
  const size_t frames = apart ? 1 : 0;
  const auto& payloads = descriptor.payloads;
  const TransferRules& rules = options_.rules;
  const size_t most = proved ? MaxFrameBytes(rules.limits) : kFirstFrame;
  const bool good = descriptor.tensors.empty() && payloads.size() >= frames &&
                    payloads.size() <= frames + (proved ? 1 : 0) &&
                    (!apart || payloads[0].length <= most) &&
                    (payloads.size() == frames ||
                     payloads.back().length <= rules.inline_bytes);
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "frame: a message of ", payloads.size(), " payloads and ",
      descriptor.tensors.size(), " tensors that passes the limits"));
}

void Lanes::ReadFrame(const std::shared_ptr<Lane>& lane,
                      tensorpipe::Descriptor descriptor, bool proved,
                      FrameHandler handler) {
  struct Incoming {
    std::string frame, bytes;
  };
  absl::Status status = CheckFrame(descriptor, proved);
  if (!status.ok()) return handler(std::move(status), "");
  const bool apart = descriptor.metadata.empty();
  const auto& payloads = descriptor.payloads;
  auto incoming = std::make_shared<Incoming>();
  incoming->frame = std::move(descriptor.metadata);
  tensorpipe::Allocation allocation;
  if (apart) {
    incoming->frame.resize(payloads[0].length);
    allocation.payloads.push_back({incoming->frame.data()});
  }
  if (payloads.size() > allocation.payloads.size()) {
    incoming->bytes.resize(payloads.back().length);
    allocation.payloads.push_back({incoming->bytes.data()});
  }
  const bool complete = allocation.payloads.empty();
  auto decode = [this, incoming, handler = std::move(handler)] {
    handler(DecodeFrame(incoming->frame, options_.rules.limits),
            std::move(incoming->bytes));
  };
  if (complete) {
    lane->Read(std::move(allocation), [](bool) {});
    return decode();
  }
  lane->Read(std::move(allocation), [decode](bool ok) {
    if (ok) decode();
  });
}

void Lanes::OnBodyDescriptor(Connection& connection,
                             tensorpipe::Descriptor descriptor) {
  absl::StatusOr<BodyTag> tag = DecodeBodyTag(descriptor.metadata);
  if (!tag.ok()) return Fail(tag.status());
  if (tag->generation != connection.generation) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(
        "the peer broke the transfer protocol: a body of generation ",
        tag->generation, " on ", NameOf(connection.index), ", generation ",
        connection.generation)));
  }
  slots_[connection.index].described = std::move(descriptor);
  owner_->OnBody(connection.index, connection.generation, *tag);
}

void Lanes::OnFirstFrame(Lane* key, absl::StatusOr<Frame> frame) {
  auto found = connections_.find(key);
  if (closing_ || found == connections_.end()) return;
  Connection& connection = found->second;
  if (connection.lane->ending()) return;
  if (!frame.ok()) return Turn(connection, frame.status());
  if (auto* reject = std::get_if<RejectFrame>(&*frame)) {
    return Turn(connection,
                accepts_ ? absl::InvalidArgumentError("REJECT of a dialer")
                         : reject->status);
  }
  auto* hello = std::get_if<HelloFrame>(&*frame);
  if (hello == nullptr) {
    return Turn(connection,
                absl::InvalidArgumentError("the first frame is no HELLO"));
  }
  absl::Status status =
      accepts_ ? CheckHello(*hello) : CheckReply(connection, *hello);
  if (!status.ok()) return Turn(connection, std::move(status));
  Adopt(connection, std::move(*hello));
}

// The key comes first: nobody without it learns anything else.
absl::Status Lanes::CheckHello(const HelloFrame& hello) const {
  if (!EqualSecrets(hello.key, options_.key) ||
      hello.session_id != options_.rules.session_id) {
    return absl::UnauthenticatedError("wrong session or key");
  }
  if (hello.wire_version != options_.rules.wire_version) {
    return absl::FailedPreconditionError(
        absl::StrCat("HELLO speaks wire version ", hello.wire_version,
                     ", this side ", options_.rules.wire_version));
  }
  if (hello.lanes != slots_.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "HELLO counts ", hello.lanes, " lanes, this side ", slots_.size()));
  }
  const Slot& slot = slots_[hello.lane];
  if (slot.lane != nullptr || hello.generation != slot.generation + 1) {
    return absl::UnauthenticatedError(
        absl::StrCat("lane ", hello.lane, ", generation ", hello.generation,
                     " is not expected; this one is at ", slot.generation));
  }
  return absl::OkStatus();
}

absl::Status Lanes::CheckReply(const Connection& connection,
                               const HelloFrame& hello) const {
  if (static_cast<int>(hello.lane) == connection.index &&
      hello.generation == connection.generation &&
      hello.session_id == options_.rules.session_id) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("HELLO answers for lane ",
                                                 hello.lane, ", generation ",
                                                 hello.generation));
}

// Says no to a stranger; on the dialing side, hears it.
void Lanes::Turn(Connection& connection, absl::Status why) {
  if (!accepts_) {
    return Fail(absl::Status(why.code(), absl::StrCat(NameOf(connection.index),
                                                      ": ", why.message())));
  }
  // One that has the key and still does not fit never will.
  bool hopeless = !up_ && why.code() == absl::StatusCode::kFailedPrecondition;
  Write(*connection.lane, RejectFrame{why}, "",
        [this, lane = connection.lane, why, hopeless](bool) {
          lane->Close(why);
          if (hopeless) Fail(why);
        });
}

void Lanes::Adopt(Connection& connection, HelloFrame hello) {
  int index = static_cast<int>(hello.lane);
  connection.index = index;
  connection.generation = hello.generation;
  connection.proved = true;
  Slot& slot = slots_[index];
  slot.lane = connection.lane.get();
  slot.generation = hello.generation;
  slot.context = connection.context;
  slot.peer = std::move(hello.channels);
  slot.dialing = nullptr;
  slot.reopen.reset();
  slot.reopen_by = absl::InfiniteFuture();
  for (GivenUpPath& path : hello.given_up) {
    given_up_.emplace(std::move(path.path), std::move(path.why));
  }
  if (accepts_) {
    Write(*connection.lane, MakeHello(connection), "", [](bool) {});
  }
  if (AllUp()) StopListening();
  if (index > 0 && PathTo(index, DeviceId(), DeviceId()).empty()) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat(NameOf(index),
                     ": the two sides have no channel in common for host "
                     "memory")));
  }
  if (index > 0) owner_->OnLaneUp(index, slot.generation);
  if (!up_ && AllUp()) {
    up_ = true;
    owner_->OnUp();
  }
}

bool Lanes::AllUp() const {
  return std::all_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.lane != nullptr; });
}

void Lanes::OnLaneFrame(Frame frame, std::string inline_bytes) {
  if (auto* reopen = std::get_if<ReopenFrame>(&frame)) return OnReopen(*reopen);
  bool out_of_place = std::holds_alternative<HelloFrame>(frame) ||
                      std::holds_alternative<RejectFrame>(frame);
  if (out_of_place) {
    return Fail(absl::InvalidArgumentError(
        "the peer broke the transfer protocol: HELLO or REJECT on a lane that "
        "is up"));
  }
  owner_->OnFrame(std::move(frame), std::move(inline_bytes));
}

// ---- lanes that end

void Lanes::OnEnded(Lane* key, absl::Status why, const std::string& refused) {
  auto found = connections_.find(key);
  Connection connection = std::move(found->second);
  connections_.erase(found);
  broken_ = broken_ || key->broken();
  if (connection.index >= 0 && slots_[connection.index].lane == key) {
    slots_[connection.index].lane = nullptr;
    connection.was_up = true;
  }
  if (closing_) return MaybeClosed();
  if (key->broken()) return Fail(std::move(why));
  if (!refused.empty()) GiveUp(connection.context, refused, why);
  if (failed_ || connection.index < 0) return;  // a stranger
  Slot& slot = slots_[connection.index];
  if (slot.dialing == key) slot.dialing = nullptr;
  bool was_up = connection.was_up;
  if (!up_ || (was_up && connection.index == 0)) return Fail(std::move(why));
  if (!was_up) return;  // a dial that failed; the timer watches
  slot.described.reset();
  slot.reopen_by = loop_->clock()->Now() + kReopenWithin;
  ArmReopenTimer();
  owner_->OnLaneEnded(connection.index);
  OnSlotEnded(connection.index);
}

void Lanes::OnSlotEnded(int index) {
  if (closing_) return;
  if (accepts_) {
    if (listener_ == nullptr) return ListenForLostLanes();
    return SendReopen(index);
  }
  if (slots_[index].reopen) OnReopen(*slots_[index].reopen);
}

// The peer has seen a lane end, perhaps before this side.
void Lanes::OnReopen(const ReopenFrame& reopen) {
  bool expected = !accepts_ && reopen.lane > 0 && reopen.lane < slots_.size() &&
                  reopen.generation == slots_[reopen.lane].generation + 1;
  if (!expected) {
    return Fail(absl::InvalidArgumentError(
        absl::StrCat("the peer broke the transfer protocol: REOPEN of lane ",
                     reopen.lane, ", generation ", reopen.generation)));
  }
  absl::Status status = CheckLoopback(reopen.address);
  if (!status.ok()) return Fail(std::move(status));
  Slot& slot = slots_[reopen.lane];
  slot.reopen = reopen;
  if (slot.lane != nullptr) {
    slot.lane->Close(absl::UnavailableError("the peer ended the lane"));
    return;
  }
  if (slot.dialing != nullptr) {
    slot.dialing->Close(absl::CancelledError("dialed anew"));
  }
  DialLane(static_cast<int>(reopen.lane), reopen.generation, reopen.address);
}

void Lanes::GiveUp(size_t context, const std::string& channel,
                   absl::Status why) {
  std::string path = absl::StrCat(contexts_[context].transport, "/", channel);
  given_up_.emplace(path, why);
  if (!without_.insert(path).second) return;
  absl::Status status = AddContext();
  if (!status.ok()) {
    return Fail(absl::UnavailableError(
        absl::StrCat(why.message(), "; ", status.message())));
  }
  if (listener_ != nullptr && up_) {
    StopListening();
    ListenForLostLanes();
  }
}

// Accepting side: tells the peer where the lanes that are down are expected.
void Lanes::ListenForLostLanes() {
  if (AllUp() || closing_ || failed_) return;
  absl::Status status = Listen();
  if (!status.ok()) return Fail(std::move(status));
  AcceptNext();
  for (int index = 1; index < static_cast<int>(slots_.size()); ++index) {
    if (slots_[index].lane == nullptr) SendReopen(index);
  }
}

void Lanes::SendReopen(int index) {
  SendFrame(ReopenFrame{static_cast<uint32_t>(index),
                        slots_[index].generation + 1, address_});
}

void Lanes::ArmReopenTimer() {
  if (timer_pending_) return;
  absl::Time first = absl::InfiniteFuture();
  for (const Slot& slot : slots_) first = std::min(first, slot.reopen_by);
  if (first == absl::InfiniteFuture()) return;
  timer_pending_ = true;
  reopen_timer_ = loop_->RunAt(first, [this] {
    timer_pending_ = false;
    if (closing_ || failed_) return;
    for (int index = 1; index < static_cast<int>(slots_.size()); ++index) {
      if (slots_[index].reopen_by > loop_->clock()->Now()) continue;
      return Fail(absl::UnavailableError(
          absl::StrCat(NameOf(index), " could not be opened again within ",
                       absl::FormatDuration(kReopenWithin))));
    }
    ArmReopenTimer();
  });
}

// ---- what the owner asks for

void Lanes::Write(Lane& lane, const Frame& frame, std::string inline_bytes,
                  Lane::Written done) {
  struct Outgoing {
    std::string frame, bytes;
  };
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->frame = EncodeFrame(frame);
  outgoing->bytes = std::move(inline_bytes);
  tensorpipe::Message message;
  if (outgoing->frame.size() <= kFrameInMetadata) {
    message.metadata = std::move(outgoing->frame);
  } else {
    message.payloads.push_back(
        {outgoing->frame.data(), outgoing->frame.size(), ""});
  }
  if (!outgoing->bytes.empty()) {
    message.payloads.push_back(
        {outgoing->bytes.data(), outgoing->bytes.size(), ""});
  }
  lane.Write(std::move(message),
             [outgoing = std::move(outgoing), done = std::move(done)](
                 bool ok) mutable { std::move(done)(ok); });
}

void Lanes::SendFrame(const Frame& frame, std::string inline_bytes) {
  if (slots_[0].lane == nullptr) return;
  Write(*slots_[0].lane, frame, std::move(inline_bytes),
        [this](bool) { owner_->OnFrameWritten(); });
}

void Lanes::WriteBody(int lane, tensorpipe::Message message,
                      Lane::Written done) {
  Lane* to = slots_[lane].lane;
  if (to != nullptr) return to->Write(std::move(message), std::move(done));
  loop_->Post([done = std::move(done)]() mutable { std::move(done)(false); });
}

const tensorpipe::Descriptor& Lanes::described(int lane) const {
  return *slots_[lane].described;
}

void Lanes::ReadBody(int lane, tensorpipe::Allocation allocation,
                     Lane::Written done) {
  slots_[lane].described.reset();
  Lane* from = slots_[lane].lane;
  if (from != nullptr) {
    return from->Read(std::move(allocation), std::move(done));
  }
  loop_->Post([done = std::move(done)]() mutable { std::move(done)(false); });
}

void Lanes::Reset(int lane, uint32_t generation, absl::Status why) {
  Slot& slot = slots_[lane];
  if (slot.lane == nullptr || slot.generation != generation) return;
  slot.lane->Close(std::move(why));
}

std::string Lanes::PathTo(int lane, const DeviceId& local,
                          const DeviceId& remote) const {
  const Slot& slot = slots_[lane];
  return contexts_[slot.context].PathTo(local, remote, slot.peer);
}

absl::Status Lanes::GivenUp(const std::string& path) const {
  auto found = given_up_.find(path);
  return found == given_up_.end() ? absl::OkStatus() : found->second;
}

size_t Lanes::frames_pending() const {
  return slots_[0].lane == nullptr ? 0 : slots_[0].lane->writes_pending();
}

void Lanes::Fail(absl::Status why) {
  if (failed_ || closing_) return;
  failed_ = true;
  owner_->OnFailed(std::move(why));
}

void Lanes::Close(absl::Status why) {
  if (closing_) return;
  closing_ = true;
  StopListening();
  if (timer_pending_) loop_->CancelTimer(reopen_timer_);
  for (auto& [key, connection] : connections_) connection.lane->Close(why);
  loop_->Post([this] { MaybeClosed(); });
}

void Lanes::MaybeClosed() {
  if (!closing_ || closed_ || !connections_.empty() || accepts_pending_ != 0) {
    return;
  }
  closed_ = true;
  owner_->OnClosed();
}

std::vector<std::shared_ptr<tensorpipe::Context>> Lanes::TakeContexts() {
  std::vector<std::shared_ptr<tensorpipe::Context>> contexts;
  for (LaneContext& context : contexts_) {
    if (broken_) {
      // Joining would hang: what tensorpipe holds of it is lost.
      new std::shared_ptr<tensorpipe::Context>(std::move(context.context));
    } else {
      contexts.push_back(std::move(context.context));
    }
    context.channels.clear();
  }
  return contexts;
}

}  // namespace tensorferry
