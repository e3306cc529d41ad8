#include "transfer/lanes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "transfer/lane_frames.h"
#include "transfer/loopback.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

constexpr absl::Duration kReopenWithin = absl::Seconds(5);
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

// Every so many frames one goes in a way that tells when the socket has taken
// it, and so all before it.
constexpr uint64_t kFramesPerProbe = 64;

// What waits for a peer that reads is far less: a few frames for each operation
// of his or ours, which all count as in flight until he has read their last.
uint64_t MostFramesPending(const Limits& limits) {
  return 2 * kFramesPerProbe + 16 * uint64_t{limits.operations_in_flight};
}

}  // namespace

Lanes::Lanes(Options options)
    : options_(std::move(options)),
      loop_(options_.loop),
      owner_(options_.owner),
      slots_(1 + std::max<uint32_t>(1, options_.rules.limits.body_lanes)),
      offers_(slots_.size()),
      dials_(slots_.size()) {}

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
  return listener_->address();
}

absl::Status Lanes::Listen() {
  const LaneContext& context = contexts_.back();
  FERRY_ASSIGN_OR_RETURN(
      listener_, LaneListener::Listen(loop_, *context.context,
                                      context.transport, options_.listen));
  return absl::OkStatus();
}

void Lanes::Accept() { StartListening(); }

void Lanes::StartListening() {
  ++listeners_;
  listener_->Start({[this, context = contexts_.size() - 1](
                        std::shared_ptr<tensorpipe::Pipe> pipe) {
                      OnPipe(std::move(pipe), context);
                    },
                    [this, key = listener_.get()](absl::Status why) {
                      OnListenerEnded(key, std::move(why));
                    }});
}

void Lanes::StopListening() {
  if (listener_ == nullptr) return;
  listener_->Close();
  listener_ = nullptr;
  for (auto& [key, connection] : connections_) {
    if (connection.index < 0) {
      connection.lane->Close(absl::CancelledError("no lane is expected"));
    }
  }
}

void Lanes::OnPipe(std::shared_ptr<tensorpipe::Pipe> pipe, size_t context) {
  // A stranger too many is dropped with his pipe.
  if (connections_.size() >= slots_.size() + kStrangersAllowed) return;
  Open(std::move(pipe), context, -1, 0);
}

// `key` is alive, so it is the address of no other listener.
void Lanes::OnListenerEnded(LaneListener* key, absl::Status why) {
  --listeners_;
  broken_ = broken_ || key->broken();
  if (closing_) return MaybeClosed();
  if (listener_.get() != key) return;
  listener_ = nullptr;
  if (!up_ || key->broken()) return Fail(std::move(why));
  LaneOffers::Actions actions;
  offers_.OnListenerLost(actions);
  Do(actions);
}

Lanes::Connection& Lanes::Open(std::shared_ptr<tensorpipe::Pipe> pipe,
                               size_t context, int index, uint32_t generation) {
  auto lane = std::make_shared<Lane>(loop_, std::move(pipe), NameOf(index));
  Lane* key = lane.get();
  Connection& connection = connections_[key];
  connection = {lane, context, index, generation, /*proved=*/false};
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
  const LaneContext& context = contexts_.back();
  if (!absl::StartsWith(address, absl::StrCat(context.transport, "://"))) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(
        NameOf(index), ": address \"", address,
        "\", but this session's transport is ", context.transport)));
  }
  std::shared_ptr<tensorpipe::Pipe> pipe;
  try {
    pipe = context.context->connect(address);
  } catch (...) {
    return Fail(CurrentExceptionStatus(
        absl::StrCat(NameOf(index), ": connecting to ", address)));
  }
  Connection& connection =
      Open(std::move(pipe), contexts_.size() - 1, index, generation);
  slots_[index].dialing = connection.lane.get();
  HelloFrame hello = MakeHello(connection);
  hello.key = options_.key;
  WriteFrame(*connection.lane, std::move(hello), FrameIn::kMetadataIfShort, "",
             [](bool) {});
}

HelloFrame Lanes::MakeHello(const Connection& connection) const {
  HelloFrame hello;
  hello.session_id = options_.rules.session_id;
  hello.lane = connection.index;
  hello.generation = connection.generation;
  hello.wire_version = options_.rules.wire_version;
  hello.lanes = static_cast<uint32_t>(slots_.size());
  hello.channels = contexts_[connection.context].Describe();
  for (const auto& [path, why] : given_up_) {
    hello.given_up.push_back({path, why});
  }
  return hello;
}

// ---- what arrives

void Lanes::OnDescriptor(Lane* key, tensorpipe::Descriptor descriptor) {
  Connection& connection = connections_.at(key);
  if (connection.proved && connection.index > 0) {
    return OnBodyDescriptor(connection, std::move(descriptor));
  }
  if (connection.proved) {
    return ReadFrame(*connection.lane, std::move(descriptor), options_.rules,
                     /*proved=*/true,
                     [this](absl::StatusOr<Frame> frame, std::string bytes) {
                       if (closing_) return;
                       if (!frame.ok()) return Fail(frame.status());
                       OnLaneFrame(*std::move(frame), std::move(bytes));
                     });
  }
  ReadFrame(*connection.lane, std::move(descriptor), options_.rules,
            /*proved=*/false,
            [this, key](absl::StatusOr<Frame> frame, std::string) {
              OnFirstFrame(key, std::move(frame));
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
  return offers_.Check(hello.lane, hello.generation);
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
    why = absl::Status(why.code(), absl::StrCat(NameOf(connection.index), ": ",
                                                why.message()));
    // An offer may have been overtaken by the next; the timer watches.
    if (connection.generation > 1) return connection.lane->Close(why);
    return Fail(std::move(why));
  }
  // One that has the key and still does not fit never will.
  bool hopeless = !up_ && why.code() == absl::StatusCode::kFailedPrecondition;
  WriteFrame(*connection.lane, RejectFrame{why}, FrameIn::kMetadataIfShort, "",
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
  connection.lane->set_name(NameOf(index));
  Slot& slot = slots_[index];
  slot.lane = connection.lane.get();
  slot.dialing = nullptr;
  slot.generation = hello.generation;
  slot.context = connection.context;
  slot.peer = std::move(hello.channels);
  slot.reopen_by = absl::InfiniteFuture();
  for (GivenUpPath& path : hello.given_up) {
    const auto& paths = options_.rules.paths;
    if (std::find(paths.begin(), paths.end(), path.path) == paths.end()) {
      continue;
    }
    given_up_.emplace(std::move(path.path), std::move(path.why));
  }
  if (accepts_) {
    WriteFrame(*connection.lane, MakeHello(connection),
               FrameIn::kMetadataIfShort, "",
               [this](bool) { owner_->OnFrameWritten(); });
    LaneOffers::Actions actions;
    offers_.OnTaken(hello.lane, actions);
    Do(actions);
  }
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
  if (auto* reopen = std::get_if<ReopenFrame>(&frame)) {
    return OnReopen(std::move(*reopen));
  }
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
  const int index = connection.index;
  bool was_up = false;
  if (index >= 0) {
    Slot& slot = slots_[index];
    was_up = slot.lane == key;
    if (was_up) slot.lane = nullptr;
    if (slot.dialing == key) slot.dialing = nullptr;
  }
  if (closing_) return MaybeClosed();
  if (key->broken()) return Fail(std::move(why));
  if (!refused.empty()) GiveUp(connection.context, refused, why);
  if (failed_ || index < 0) return;  // a stranger
  // The accepting side may be up, and end lanes, before the dialing one knows.
  if (index == 0 || (accepts_ && !up_)) return Fail(std::move(why));
  Slot& slot = slots_[index];
  slot.ended_with = std::move(why);
  ArmReopenTimer(slot);
  if (was_up) {
    slot.described.reset();
    owner_->OnLaneEnded(index);
  }
  if (closing_) return;
  if (accepts_) {
    LaneOffers::Actions actions;
    offers_.OnEnded(index, actions);
    return Do(actions);
  }
  LaneDials::Actions actions;
  dials_.OnEnded(index, actions);
  Do(actions);
}

// New lanes do without the path.
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
  if (!accepts_ || !up_) return;
  LaneOffers::Actions actions;
  offers_.OnListenerLost(actions);
  Do(actions);
}

void Lanes::Do(const LaneOffers::Actions& actions) {
  for (const LaneOffers::Action& action : actions) {
    switch (action.kind) {
      case LaneOffers::Action::Kind::kListen: {
        StopListening();
        absl::Status status = Listen();
        if (!status.ok()) return Fail(std::move(status));
        StartListening();
        break;
      }
      case LaneOffers::Action::Kind::kStopListening:
        StopListening();
        break;
      case LaneOffers::Action::Kind::kOffer:
        SendFrame(
            ReopenFrame{action.lane, action.generation, listener_->address()});
        break;
    }
  }
}

void Lanes::OnReopen(ReopenFrame reopen) {
  if (accepts_) {
    return Fail(absl::InvalidArgumentError(
        "the peer broke the transfer protocol: REOPEN from a dialer"));
  }
  absl::Status status = CheckLoopback(reopen.address);
  LaneDials::Actions actions;
  if (status.ok()) {
    status = dials_.OnOffer(reopen.lane, reopen.generation,
                            std::move(reopen.address), actions);
  }
  if (!status.ok()) return Fail(std::move(status));
  Do(actions);
}

void Lanes::Do(const LaneDials::Actions& actions) {
  for (const LaneDials::Action& action : actions) {
    Slot& slot = slots_[action.lane];
    if (action.kind == LaneDials::Action::Kind::kDial) {
      DialLane(static_cast<int>(action.lane), action.generation,
               action.address);
    } else {
      Lane* lane = slot.lane != nullptr ? slot.lane : slot.dialing;
      lane->Close(absl::UnavailableError("the peer ended the lane"));
    }
  }
}

// From the first of the connections that were lost in a row.
void Lanes::ArmReopenTimer(Slot& slot) {
  if (slot.reopen_by != absl::InfiniteFuture()) return;
  slot.reopen_by = loop_->clock()->Now() + kReopenWithin;
  if (reopen_timer_ != 0) return;
  reopen_timer_ = loop_->RunAt(slot.reopen_by, [this] { OnReopenTimer(); });
}

void Lanes::OnReopenTimer() {
  reopen_timer_ = 0;
  if (closing_ || failed_) return;
  absl::Time first = absl::InfiniteFuture();
  for (int index = 1; index < static_cast<int>(slots_.size()); ++index) {
    const Slot& slot = slots_[index];
    first = std::min(first, slot.reopen_by);
    if (slot.reopen_by > loop_->clock()->Now()) continue;
    return Fail(absl::UnavailableError(absl::StrCat(
        NameOf(index), " could not be opened again within ",
        absl::FormatDuration(kReopenWithin), ": ", slot.ended_with.message())));
  }
  if (first == absl::InfiniteFuture()) return;
  reopen_timer_ = loop_->RunAt(first, [this] { OnReopenTimer(); });
}

// ---- what the owner asks for

void Lanes::SendFrame(const Frame& frame, std::string inline_bytes) {
  if (slots_[0].lane == nullptr) return;
  ++frames_sent_;
  if (frames_sent_ % kFramesPerProbe == 0) {
    WriteFrame(*slots_[0].lane, frame, FrameIn::kPayload,
               std::move(inline_bytes), [this, sent = frames_sent_](bool) {
                 frames_taken_ = sent;
                 owner_->OnFrameWritten();
               });
  } else {
    WriteFrame(*slots_[0].lane, frame, FrameIn::kMetadataIfShort,
               std::move(inline_bytes),
               [this](bool) { owner_->OnFrameWritten(); });
  }
  const uint64_t most = MostFramesPending(options_.rules.limits);
  if (frames_sent_ - frames_taken_ <= most) return;
  loop_->Post([this, most] {
    Fail(absl::ResourceExhaustedError(
        absl::StrCat("more than ", most,
                     " frames wait for the peer, which does not read "
                     "them; that many are allowed by operations_in_flight")));
  });
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
  if (reopen_timer_ != 0) loop_->CancelTimer(reopen_timer_);
  for (auto& [key, connection] : connections_) connection.lane->Close(why);
  loop_->Post([this] { MaybeClosed(); });
}

void Lanes::MaybeClosed() {
  if (!closing_ || closed_ || !connections_.empty() || listeners_ != 0) {
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
