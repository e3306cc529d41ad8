#include "transfer/lanes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "transfer/lane_frames.h"
#include "transfer/path_tally.h"
#include "transfer/paths.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

constexpr absl::Duration kReopenWithin = absl::Seconds(5);
constexpr size_t kMostWires = 3;

// Every so many frames one goes in a way that tells when the socket has taken
// it, and so all before it.
constexpr uint64_t kFramesPerProbe = 64;

// What waits for a peer that reads is far less: a few frames for each operation
// of his or ours, which all count as in flight until he has read their last.
uint64_t MostFramesPending(const Limits& limits) {
  return 2 * kFramesPerProbe + 16 * uint64_t{limits.operations_in_flight};
}

// Whether a lane that is opened again, which has the same channels, would end
// so too: no accident makes a peer break the framing, and what a channel does
// not take of this peer it will not take either when it comes again.
bool IsForGood(const absl::Status& why) {
  return absl::IsDataLoss(why) || absl::IsFailedPrecondition(why) ||
         absl::IsPermissionDenied(why);
}

// Where those who look for leaks find it.
void KeepForEver(std::shared_ptr<tensorpipe::Context> context) {
  static absl::Mutex mu;
  static auto* const kept =
      new std::vector<std::shared_ptr<tensorpipe::Context>>;
  absl::MutexLock lock(&mu);
  kept->push_back(std::move(context));
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

SessionKey Lanes::Key() const {
  return {options_.rules.session_id, options_.key};
}

ContextEvents Lanes::Events() {
  ContextEvents events;
  events.on_wedged = [self = std::weak_ptr<Lanes*>(self_)](absl::Status why) {
    if (auto lanes = self.lock()) (*lanes)->OnWedged(why);
  };
  return events;
}

absl::Status Lanes::AddContext(
    std::optional<Wire> wire,
    std::shared_ptr<tensorpipe::transport::Context> transport) {
  ChannelEnvironment environment;
  environment.copier = options_.copier;
  environment.loop = loop_;
  environment.digests = options_.rules.digests;
  environment.pool = options_.pool;
  environment.lent = [self = std::weak_ptr<Lanes*>(self_)](const void* data,
                                                           uint64_t nbytes) {
    auto lanes = self.lock();
    return lanes == nullptr ? std::nullopt
                            : (*lanes)->owner_->PlaceOfLent(data, nbytes);
  };
  environment.leases = options_.leases;
  environment.reader_of = [self = std::weak_ptr<Lanes*>(self_)](
                              CopyWay way, const void* data, uint64_t nbytes) {
    auto lanes = self.lock();
    return lanes == nullptr ? nullptr
                            : (*lanes)->owner_->ReaderOf(way, data, nbytes);
  };
  environment.on_carried = [self =
                                std::weak_ptr<Lanes*>(self_)](Carried carried) {
    auto lanes = self.lock();
    if (lanes == nullptr) return;
    const void* buffer = carried.buffer;
    (*lanes)->carried_.emplace(buffer, std::move(carried));
  };
  environment.on_copy = [self = std::weak_ptr<Lanes*>(self_)](bool begun) {
    if (auto lanes = self.lock()) (*lanes)->OnCopy(begun);
  };
  environment.on_wedged = Events().on_wedged;
  FERRY_ASSIGN_OR_RETURN(
      LaneContext made,
      MakeLaneContext(*options_.backends, options_.rules.paths, wire,
                      std::move(transport), environment,
                      options_.rules.session_id));
  contexts_.push_back(std::move(made));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Lanes::Expect(
    absl::Time unused_until) {
  accepts_ = true;
  const TransferRules& rules = options_.rules;
  FERRY_ASSIGN_OR_RETURN(Hub::Expected expected,
                         options_.hub->Expect(Key(), WiresOf(rules.paths),
                                              unused_until, Events()));
  FERRY_RETURN_IF_ERROR(AddContext(std::nullopt, std::move(expected.context)));
  absl::StatusOr<std::shared_ptr<LaneListener>> listener = LaneListener::Listen(
      loop_, *contexts_.back().context,
      absl::StrCat(kTransportName, "://", expected.listen));
  if (!listener.ok()) {
    contexts_.back().context->close();
    return listener.status();
  }
  listener_ = *std::move(listener);
  return std::move(expected.addresses);
}

void Lanes::Accept() {
  listening_ = true;
  listener_->Start(
      {[this](std::shared_ptr<tensorpipe::Pipe> pipe) {
         if (!closing_) Open(std::move(pipe), -1, 0);
       },
       [this](absl::Status why) { OnListenerEnded(std::move(why)); }});
}

void Lanes::OnListenerEnded(absl::Status why) {
  if (listener_->broken()) OnWedged(why);
  listener_ = nullptr;
  if (closing_) return MaybeClosed();
  Fail(std::move(why));
}

Lanes::Connection& Lanes::Open(std::shared_ptr<tensorpipe::Pipe> pipe,
                               int index, uint32_t generation) {
  auto lane = std::make_shared<Lane>(loop_, std::move(pipe), NameOf(index));
  Lane* key = lane.get();
  Connection& connection = connections_[key];
  connection = {lane,
                contexts_.size() - 1,
                index,
                generation,
                /*greeted=*/false,
                /*turned=*/false,
                /*hopeless=*/absl::OkStatus()};
  if (accepts_) {
    connection.greet_timer =
        loop_->RunAt(loop_->clock()->Now() + options_.greet_within,
                     [this, key] { OnNotGreeted(key); });
  }
  Lane::Callbacks callbacks;
  callbacks.on_descriptor = [this, key](tensorpipe::Descriptor descriptor) {
    OnDescriptor(key, std::move(descriptor));
  };
  callbacks.on_ended = [this, key](absl::Status why) {
    OnEnded(key, std::move(why));
  };
  callbacks.on_thrown = [this](const absl::Status& why) { OnWedged(why); };
  lane->Start(std::move(callbacks));
  return connection;
}

void Lanes::Dial(std::vector<std::string> addresses) {
  addresses_.assign(addresses.begin(), addresses.end());
  DialNext(
      absl::InvalidArgumentError("the peer named no address for its lanes"));
}

// `last`: what to fail with if there is no other address.
void Lanes::DialNext(absl::Status last) {
  if (addresses_.empty()) return Fail(WithAllTried(std::move(last)));
  const std::string address = std::move(addresses_.front());
  addresses_.pop_front();
  absl::Status status = BeginDialing(address);
  if (!status.ok()) return Fail(std::move(status));
  for (int index = 0; index < static_cast<int>(slots_.size()); ++index) {
    if (!failed_ && !closing_ && !broken_) DialLane(index, 1);
  }
}

// Says what came of each of several addresses.
absl::Status Lanes::WithAllTried(absl::Status last) const {
  if (given_up_.size() < 2) return last;
  std::vector<std::string> tried;
  for (const GivenUpPath& wire : given_up_) {
    tried.push_back(absl::StrCat(wire.path, ": ", wire.why.message()));
  }
  return absl::Status(last.code(),
                      absl::StrCat("no address of the peer can be reached (",
                                   absl::StrJoin(tried, "; "), ")"));
}

absl::Status Lanes::BeginDialing(const std::string& address) {
  FERRY_ASSIGN_OR_RETURN(DataAddress parsed, ParseDataAddress(address));
  const std::string wire(ToString(parsed.wire));
  FERRY_RETURN_IF_ERROR(CheckWire(wire));
  FERRY_ASSIGN_OR_RETURN(auto transport,
                         options_.hub->Dial(Key(), address, Events()));
  FERRY_RETURN_IF_ERROR(AddContext(parsed.wire, std::move(transport)));
  address_ = absl::StrCat(kTransportName, "://", address);
  wire_ = wire;
  return absl::OkStatus();
}

absl::Status Lanes::CheckWire(const std::string& wire) const {
  for (Wire known : WiresOf(options_.rules.paths)) {
    if (ToString(known) == wire) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no path of this session goes over the wire \"", wire,
                   "\" that the peer names"));
}

void Lanes::DialLane(int index, uint32_t generation) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  try {
    pipe = contexts_.back().context->connect(address_);
  } catch (...) {
    return OnWedged(CurrentExceptionStatus(
        absl::StrCat(NameOf(index), ": connecting to ", address_)));
  }
  Connection& connection = Open(std::move(pipe), index, generation);
  slots_[index].dialing = connection.lane.get();
  WriteFrame(*connection.lane, MakeHello(connection), FrameIn::kMetadataIfShort,
             "", [](bool) {});
}

// Whether a dial that ended so says that the address cannot be reached.
bool Lanes::MayDialNext(const absl::Status& why) const {
  return !accepts_ &&
         (absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why)) &&
         std::all_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.generation == 0; });
}

void Lanes::GiveUpWire(absl::Status why) {
  for (auto& [key, connection] : connections_) connection.lane->Close(why);
  for (Slot& slot : slots_) {
    slot.dialing = nullptr;
    slot.reopen_by = absl::InfiniteFuture();
  }
  dials_ = LaneDials(slots_.size());
  given_up_.push_back({wire_, why});
  DialNext(std::move(why));
}

HelloFrame Lanes::MakeHello(const Connection& connection) const {
  HelloFrame hello;
  hello.session_id = options_.rules.session_id;
  hello.lane = connection.index;
  hello.generation = connection.generation;
  hello.wire_version = options_.rules.wire_version;
  hello.lanes = static_cast<uint32_t>(slots_.size());
  hello.wire = accepts_ ? slots_[connection.index].wire : wire_;
  hello.channels = contexts_[connection.context].Describe();
  if (!accepts_) hello.given_up = given_up_;
  return hello;
}

// ---- what arrives

// Once it has failed nothing is heard: lanes that end are not looked after.
void Lanes::OnDescriptor(Lane* key, tensorpipe::Descriptor descriptor) {
  Connection& connection = connections_.at(key);
  if (failed_ || connection.turned) return;
  if (connection.greeted && connection.index > 0) {
    return OnBodyDescriptor(connection, std::move(descriptor));
  }
  if (connection.greeted) {
    return ReadFrame(*connection.lane, std::move(descriptor), options_.rules,
                     /*greeted=*/true,
                     [this](absl::StatusOr<Frame> frame, std::string bytes) {
                       if (failed_ || closing_) return;
                       if (!frame.ok()) return Fail(frame.status());
                       OnLaneFrame(*std::move(frame), std::move(bytes));
                     });
  }
  ReadFrame(*connection.lane, std::move(descriptor), options_.rules,
            /*greeted=*/false,
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
  if (failed_ || closing_ || found == connections_.end()) return;
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

absl::Status Lanes::CheckHello(const HelloFrame& hello) const {
  if (hello.session_id != options_.rules.session_id) {
    return absl::UnauthenticatedError("HELLO is of another session");
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
  FERRY_RETURN_IF_ERROR(CheckWire(hello.wire));
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

void Lanes::OnNotGreeted(Lane* key) {
  Connection& connection = connections_.at(key);
  connection.greet_timer = 0;
  connection.lane->Close(absl::DeadlineExceededError(
      absl::StrCat("no HELLO that is right within ",
                   absl::FormatDuration(options_.greet_within))));
}

// Says no to a connection that is not expected; on the dialing side, hears it.
void Lanes::Turn(Connection& connection, absl::Status why) {
  if (!accepts_) {
    why = absl::Status(why.code(), absl::StrCat(NameOf(connection.index), ": ",
                                                why.message()));
    // An offer may have been overtaken by the next; the timer watches.
    if (connection.generation > 1) return connection.lane->Close(why);
    return Fail(std::move(why));
  }
  connection.turned = true;
  // One that does not fit never will. The peer ends it, and the link, once he
  // has heard why: were it ended here, its other lanes might overtake that. He
  // has the time that he had for HELLO.
  if (!up_ && absl::IsFailedPrecondition(why)) {
    connection.hopeless = why;
    return WriteFrame(*connection.lane, RejectFrame{std::move(why)},
                      FrameIn::kMetadataIfShort, "", [](bool) {});
  }
  // As payload: it is written when the socket has it, and may be closed then.
  WriteFrame(*connection.lane, RejectFrame{why}, FrameIn::kPayload, "",
             [lane = connection.lane, why](bool) { lane->Close(why); });
}

void Lanes::Adopt(Connection& connection, HelloFrame hello) {
  int index = static_cast<int>(hello.lane);
  connection.index = index;
  connection.generation = hello.generation;
  connection.greeted = true;
  loop_->CancelTimer(std::exchange(connection.greet_timer, 0));
  connection.lane->set_name(NameOf(index));
  Slot& slot = slots_[index];
  slot.lane = connection.lane.get();
  slot.dialing = nullptr;
  slot.generation = hello.generation;
  slot.context = connection.context;
  slot.wire = accepts_ ? std::move(hello.wire) : wire_;
  slot.peer = std::move(hello.channels);
  slot.reopen_by = absl::InfiniteFuture();
  if (accepts_) {
    if (index == 0) TakeGivenUp(std::move(hello.given_up));
    offers_.OnTaken(hello.lane);
    WriteFrame(*connection.lane, MakeHello(connection),
               FrameIn::kMetadataIfShort, "",
               [this](bool) { owner_->OnFrameWritten(); });
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

// Only what can be true is kept of what the peer says.
void Lanes::TakeGivenUp(std::vector<GivenUpPath> given_up) {
  for (GivenUpPath& path : given_up) {
    if (given_up_.size() < kMostWires && CheckWire(path.path).ok()) {
      given_up_.push_back(std::move(path));
    }
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

void Lanes::OnEnded(Lane* key, absl::Status why) {
  auto found = connections_.find(key);
  Connection connection = std::move(found->second);
  connections_.erase(found);
  loop_->CancelTimer(connection.greet_timer);
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
  if (!connection.hopeless.ok()) return Fail(connection.hopeless);
  // One that was never greeted, or belongs to an address that was given up.
  if (failed_ || index < 0 || connection.context + 1 != contexts_.size()) {
    return;
  }
  // Lane 0 alone tells: a peer that is up already may have reset any other.
  if (index == 0 && MayDialNext(why)) return GiveUpWire(std::move(why));
  // The accepting side may be up, and end lanes, before the dialing one knows.
  if (index == 0 || (accepts_ && !up_) || IsForGood(why)) {
    return Fail(std::move(why));
  }
  if (contexts_.back().HasLostAChannel()) {
    return Fail(absl::UnavailableError(
        absl::StrCat("a channel of all lanes is lost; lane ", index,
                     " ended with: ", why.message())));
  }
  Slot& slot = slots_[index];
  slot.ended_with = std::move(why);
  ArmReopenTimer(slot);
  if (was_up) {
    slot.described.reset();
    owner_->OnLaneEnded(index);
  }
  if (closing_) return;
  if (!accepts_) return Do(index, dials_.OnEnded(index));
  const uint32_t lane = static_cast<uint32_t>(index);
  SendFrame(ReopenFrame{lane, offers_.OnEnded(lane)});
}

void Lanes::OnReopen(ReopenFrame reopen) {
  if (accepts_) {
    return Fail(absl::InvalidArgumentError(
        "the peer broke the transfer protocol: REOPEN from a dialer"));
  }
  absl::StatusOr<LaneDials::Next> next =
      dials_.OnOffer(reopen.lane, reopen.generation);
  if (!next.ok()) return Fail(next.status());
  Do(static_cast<int>(reopen.lane), *next);
}

void Lanes::Do(int lane, LaneDials::Next next) {
  Slot& slot = slots_[lane];
  switch (next) {
    case LaneDials::Next::kNothing:
      return;
    case LaneDials::Next::kEnd:
      return (slot.lane != nullptr ? slot.lane : slot.dialing)
          ->Close(absl::UnavailableError("the peer ended the lane"));
    case LaneDials::Next::kDial:
      return DialLane(lane, dials_.dialed(lane));
  }
}

// tensorpipe threw. From here on no connection touches a buffer and no channel
// begins a copy, but copies of one piece each may be under way: lanes say that
// they have ended, and their reads and writes, once there is none.
void Lanes::OnWedged(const absl::Status& why) {
  if (std::exchange(broken_, true)) return;
  if (listener_ != nullptr) listener_->Break(why);
  for (auto& [key, connection] : connections_) connection.lane->Break(why);
  for (LaneContext& context : contexts_) context.Cut();
  loop_->Post([self = std::weak_ptr<Lanes*>(self_), why] {
    if (auto lanes = self.lock()) (*lanes)->Fail(why);
  });
  ReleaseSoon();
}

void Lanes::OnCopy(bool begun) {
  copies_ += begun ? 1 : -1;
  if (broken_) ReleaseSoon();
}

// In a turn of its own, after what channels do to close.
void Lanes::ReleaseSoon() {
  loop_->Post([self = std::weak_ptr<Lanes*>(self_)] {
    if (auto lanes = self.lock()) (*lanes)->ReleaseUnlessCopying();
  });
}

void Lanes::ReleaseUnlessCopying() {
  if (copies_ > 0) return;
  std::vector<std::shared_ptr<Lane>> lanes;
  for (auto& [key, connection] : connections_) lanes.push_back(connection.lane);
  for (auto& lane : lanes) lane->Release();
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
                      const std::vector<DeviceId>& sources, BodyDone done) {
  std::vector<Part> parts;
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    const auto& tensor = message.tensors[i];
    parts.push_back(PartOf(lane, tensor.buffer, tensor.length, sources[i],
                           *tensor.targetDevice));
  }
  Lane::Written written = Tallied(std::move(parts), std::move(done));
  Lane* to = slots_[lane].lane;
  if (to != nullptr) return to->Write(std::move(message), std::move(written));
  loop_->Post(
      [written = std::move(written)]() mutable { std::move(written)(false); });
}

const tensorpipe::Descriptor& Lanes::described(int lane) const {
  return *slots_[lane].described;
}

void Lanes::ReadBody(int lane, tensorpipe::Allocation allocation,
                     BodyDone done) {
  Slot& slot = slots_[lane];
  std::vector<Part> parts;
  for (size_t i = 0; slot.described && i < allocation.tensors.size(); ++i) {
    const auto& tensor = slot.described->tensors[i];
    const tensorpipe::Device& target = *tensor.targetDevice;
    parts.push_back(PartOf(lane, allocation.tensors[i].buffer, tensor.length,
                           DeviceId{target.type, target.index},
                           tensor.sourceDevice));
  }
  slot.described.reset();
  Lane::Written read = Tallied(std::move(parts), std::move(done));
  Lane* from = slot.lane;
  if (from != nullptr) {
    return from->Read(std::move(allocation), std::move(read));
  }
  loop_->Post([read = std::move(read)]() mutable { std::move(read)(false); });
}

std::shared_ptr<void> Lanes::HoldBody(int lane) {
  Lane* from = slots_[lane].lane;
  return from == nullptr ? nullptr : from->Hold();
}

// The buffer is not asked for its device: that would be a call of CUDA's.
Lanes::Part Lanes::PartOf(int lane, const tensorpipe::Buffer& buffer,
                          uint64_t nbytes, const DeviceId& local,
                          const tensorpipe::Device& remote) const {
  Part part;
  part.path = PathTo(lane, local, DeviceId{remote.type, remote.index});
  part.nbytes = nbytes;
  if (local.is_cpu()) {
    // It throws if a converter has made another kind of buffer than it says.
    CatchExceptions("looking for memory of the host", [&] {
      part.memory = buffer.unwrap<tensorpipe::CpuBuffer>().ptr;
    }).IgnoreError();
  }
  return part;
}

Lane::Written Lanes::Tallied(std::vector<Part> parts, BodyDone done) {
  return [this, parts = std::move(parts), done = std::move(done)](
             bool ok) mutable { std::move(done)(ok, UsesOf(parts, ok)); };
}

// What carried the parts of a body that is done; forgets what channels said.
std::vector<PathUse> Lanes::UsesOf(const std::vector<Part>& parts, bool ok) {
  PathTally tally;
  for (const Part& part : parts) {
    std::string path = part.path;
    auto found = carried_.find(part.memory);
    if (found != carried_.end()) {
      const Carried carried = std::move(found->second);
      carried_.erase(found);
      if (!carried.not_lease.ok()) {
        tally.Add({absl::StrCat(path, "/lease"), 0, carried.not_lease});
      }
      if (!carried.not_pool.ok()) {
        tally.Add({absl::StrCat(path, "/pool"), 0, carried.not_pool});
      }
      if (!carried.not_vm.ok()) {
        tally.Add({absl::StrCat(path, "/vm"), 0, carried.not_vm});
      }
      absl::StrAppend(&path, "/", carried.strategy);
    }
    if (ok) tally.Add({std::move(path), part.nbytes, absl::OkStatus()});
  }
  return tally.uses();
}

void Lanes::Reset(int lane, uint32_t generation, absl::Status why) {
  Slot& slot = slots_[lane];
  if (slot.lane == nullptr || slot.generation != generation) return;
  slot.lane->Close(std::move(why));
}

std::string Lanes::PathTo(int lane, const DeviceId& local,
                          const DeviceId& remote) const {
  const Slot& slot = slots_[lane];
  std::string channel =
      contexts_[slot.context].ChannelTo(local, remote, slot.peer);
  return channel.empty() ? "" : absl::StrCat(slot.wire, "/", channel);
}

bool Lanes::CarryLoans() const {
  for (int lane = 1; lane <= body_lanes(); ++lane) {
    if (PathTo(lane, DeviceId(), DeviceId()) != "unix/local") return false;
  }
  return true;
}

std::vector<PathUse> Lanes::UnreachableWires() const {
  std::vector<PathUse> wires;
  for (const GivenUpPath& wire : given_up_) {
    wires.push_back({wire.path, 0, wire.why});
  }
  return wires;
}

bool Lanes::ManyFramesUnread() const {
  return frames_sent_ - frames_taken_ > 2 * kFramesPerProbe;
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
  if (!listening_) {
    listener_ = nullptr;  // goes with its context
  } else if (listener_ != nullptr) {
    listener_->Close();
  }
  if (reopen_timer_ != 0) loop_->CancelTimer(reopen_timer_);
  for (auto& [key, connection] : connections_) connection.lane->Close(why);
  loop_->Post([this] { MaybeClosed(); });
}

void Lanes::MaybeClosed() {
  if (!closing_ || closed_ || !connections_.empty() || listener_ != nullptr) {
    return;
  }
  closed_ = true;
  owner_->OnClosed();
}

std::vector<std::shared_ptr<tensorpipe::Context>> Lanes::TakeContexts() {
  self_ = nullptr;
  std::vector<std::shared_ptr<tensorpipe::Context>> contexts;
  for (LaneContext& context : contexts_) {
    if (broken_) {
      // Joining would hang: what tensorpipe holds of it is lost, but for the
      // connections.
      context.transport->close();
      KeepForEver(std::move(context.context));
    } else {
      contexts.push_back(std::move(context.context));
    }
    context.transport = nullptr;
    context.channels.clear();
  }
  return contexts;
}

}  // namespace tensorferry
