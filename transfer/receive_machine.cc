#include "transfer/receive_machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

using Kind = ReceiveAction::Kind;

ReceiveAction Make(Kind kind, OperationId id) {
  ReceiveAction action;
  action.kind = kind;
  action.operation = id;
  return action;
}

ReceiveAction MakeWithStatus(Kind kind, OperationId id, absl::Status status) {
  ReceiveAction action = Make(kind, id);
  action.status = std::move(status);
  return action;
}

}  // namespace

ReceiveMachine::ReceiveMachine(Settings settings)
    : settings_(settings), lanes_(settings.body_lanes + 1) {}

bool ReceiveMachine::Fits(const ReceiveFilter& filter,
                          const Header& header) const {
  if (header.kind == Envelope::Kind::kReply) {
    return filter.reply_to == header.call &&
           (!filter.type || *filter.type == header.type);
  }
  if (filter.reply_to) return false;
  if (filter.type) return *filter.type == header.type;
  return header.type < settings_.reserved_types &&
         std::find(filter.except_types.begin(), filter.except_types.end(),
                   header.type) == filter.except_types.end();
}

std::set<ReceiveId>& ReceiveMachine::UnpairedLike(ReceiveId id) {
  const ReceiveFilter& filter = receives_.at(id).filter;
  return filter.type || filter.reply_to ? naming_ : taking_any_;
}

// The oldest that names the message, else the oldest that fits; 0: none.
ReceiveId ReceiveMachine::FindReceive(const Header& header) const {
  for (const std::set<ReceiveId>* unpaired : {&naming_, &taking_any_}) {
    for (ReceiveId id : *unpaired) {
      if (Fits(receives_.at(id).filter, header)) return id;
    }
  }
  return 0;
}

void ReceiveMachine::Receive(ReceiveId id, ReceiveFilter filter,
                             absl::Time deadline, Actions& out) {
  receives_[id] = {std::move(filter), deadline, 0};
  if (deadline != absl::InfiniteFuture()) deadlines_.insert({deadline, id});
  UnpairedLike(id).insert(id);
  if (ended_) return FinishReceive(id, why_, out);
  for (OperationId waiting : unclaimed_) {
    Entry& entry = operations_.at(waiting);
    if (!Fits(receives_.at(id).filter, entry.header)) continue;
    Pair(waiting, entry, id, out);
    return;
  }
}

void ReceiveMachine::Pair(OperationId id, Entry& entry, ReceiveId receive,
                          Actions& out) {
  entry.receive = receive;
  receives_.at(receive).operation = id;
  UnpairedLike(receive).erase(receive);
  StopWaiting(id, entry);
  if (entry.header.is_inline) return MaybeDeliver(id, entry, out);
  entry.state = State::kAllocating;
  ReceiveAction allocate = Make(Kind::kAllocate, id);
  allocate.receive = receive;
  out.push_back(std::move(allocate));
}

void ReceiveMachine::OnHeader(OperationId id, Header header, Actions& out) {
  if (ended_) return;
  if (id <= newest_) {
    return Lie(id, absl::StrCat("HEADER after that of operation ", newest_),
               out);
  }
  newest_ = id;
  const uint32_t most =
      std::max<uint32_t>(1, settings_.limits.operations_in_flight);
  if (open_ >= most) {
    return Lie(id,
               absl::StrCat("HEADER with ", open_,
                            " operations without a last word, "
                            "operations_in_flight is ",
                            most),
               out);
  }
  ReceiveId receive = header.refusal.ok() ? FindReceive(header) : 0;
  absl::Status refusal = CheckHeader(header, receive);
  if (refusal.ok()) {
    Open(id, std::move(header), receive, out);
  } else {
    out.push_back(MakeWithStatus(Kind::kRefuse, id, std::move(refusal)));
    out.push_back(Make(Kind::kDrop, id));
  }
  TakeParked(out);
}

// Why a message is refused as soon as its header is here; OK: it is not.
absl::Status ReceiveMachine::CheckHeader(const Header& header,
                                         ReceiveId receive) const {
  FERRY_RETURN_IF_ERROR(header.refusal);
  FERRY_RETURN_IF_ERROR(CheckBytes(header));
  return receive == 0 ? CheckWaiting(header) : absl::OkStatus();
}

// A message larger than bytes_in_flight comes alone.
absl::Status ReceiveMachine::CheckBytes(const Header& header) const {
  const uint64_t most = settings_.limits.bytes_in_flight;
  if (open_ == 0 ||
      (open_bytes_ <= most && header.nbytes <= most - open_bytes_)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(open_bytes_, " bytes are under way, ", header.nbytes,
                   " more pass the limit bytes_in_flight of ", most));
}

// For a message that no Receive waits for.
absl::Status ReceiveMachine::CheckWaiting(const Header& header) const {
  // Whoever calls waits for the reply before the request leaves.
  if (header.kind == Envelope::Kind::kReply) {
    return absl::NotFoundError(
        absl::StrCat("nobody waits for the reply to call ", header.call,
                     ": the call has ended"));
  }
  const Limits& limits = settings_.limits;
  if (unclaimed_.size() >= limits.headers_waiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat(unclaimed_.size(),
                     " messages wait for a Receive, the limit headers_waiting "
                     "is ",
                     limits.headers_waiting));
  }
  // Decoded, a manifest takes several times as much.
  if (header.manifest_nbytes >
      limits.manifest_bytes - unclaimed_manifest_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the manifests of messages that wait for a Receive have ",
        unclaimed_manifest_bytes_, " bytes, ", header.manifest_nbytes,
        " more pass the limit manifest_bytes of ", limits.manifest_bytes));
  }
  return absl::OkStatus();
}

void ReceiveMachine::Open(OperationId id, Header header, ReceiveId receive,
                          Actions& out) {
  Entry& entry = operations_[id];
  entry.bodies.resize(header.body_nbytes.size());
  entry.missing = static_cast<uint32_t>(entry.bodies.size());
  entry.header = std::move(header);
  ++open_;
  open_bytes_ += entry.header.nbytes;
  if (receive != 0) return Pair(id, entry, receive, out);
  unclaimed_.insert(id);
  unclaimed_manifest_bytes_ += entry.header.manifest_nbytes;
}

void ReceiveMachine::StopWaiting(OperationId id, const Entry& entry) {
  if (unclaimed_.erase(id) == 0) return;
  unclaimed_manifest_bytes_ -= entry.header.manifest_nbytes;
}

void ReceiveMachine::StopCounting(const Entry& entry) {
  --open_;
  open_bytes_ -= entry.header.nbytes;
}

void ReceiveMachine::OnAllocated(OperationId id, absl::Status status,
                                 Actions& out) {
  Entry& entry = operations_.at(id);
  entry.state = State::kReading;
  if (entry.closed) return MaybeDrop(id, out);
  if (!status.ok()) {
    CloseOperation(id, entry, std::move(status), out);
    return MaybeDrop(id, out);
  }
  entry.granted = true;
  ReleaseWindow(entry);
  out.push_back(Make(Kind::kGrant, id));
  TakeParked(out);
  MaybeDigest(id, entry, out);
  MaybeDeliver(id, entry, out);
}

void ReceiveMachine::OnBody(int lane, uint32_t generation, OperationId id,
                            uint32_t body, uint32_t attempt, Actions& out) {
  if (ended_) return;
  Parked arrived{true, generation, id, body, attempt};
  if (!TakeBody(lane, arrived, out)) lanes_[lane].parked = arrived;
}

// Whether the body's place is known now.
bool ReceiveMachine::TakeBody(int lane, const Parked& body, Actions& out) {
  if (body.operation > newest_) return false;
  auto found = operations_.find(body.operation);
  if (found == operations_.end() || found->second.closed) {
    return Sink(lane, body, out);
  }
  Entry& entry = found->second;
  if (body.body >= entry.bodies.size()) {
    Lie(body.operation,
        absl::StrCat("body ", body.body, " of ", entry.bodies.size()), out);
    return true;
  }
  const BodyEntry& known = entry.bodies[body.body];
  if (known.state == BodyState::kReading) return false;
  if (known.state == BodyState::kHave) {
    if (body.attempt <= known.attempt) return Sink(lane, body, out);
    if (entry.state == State::kDelivering) {
      // Its lane may end with it, and it would come once more, until the ACK.
      return entry.header.may_be_eager && Sink(lane, body, out);
    }
    if (entry.digesting && body.body < entry.digested) return false;
  }
  return TakeBodyOf(entry, lane, body, out);
}

// One that is missing, or newer than what there is.
bool ReceiveMachine::TakeBodyOf(Entry& entry, int lane, const Parked& body,
                                Actions& out) {
  const BodyPlace place =
      entry.granted ? BodyPlace::kRegion : BodyPlace::kStage;
  if (place == BodyPlace::kStage && !entry.header.may_be_eager) {
    Lie(body.operation,
        "a body for a device, or of what is lent, before its GRANT", out);
    return true;
  }
  if (place == BodyPlace::kStage &&
      (entry.state == State::kAllocating || lanes_[lane].strays != 0)) {
    return false;
  }
  BodyEntry& known = entry.bodies[body.body];
  const uint64_t nbytes = entry.header.body_nbytes[body.body];
  if (known.state == BodyState::kHave) {
    if (body.body < entry.digested) {
      entry.digested = 0;
      entry.digested_in_vain = true;
    }
    ++entry.missing;
    known.state = BodyState::kMissing;
    if (!entry.granted) Unstage(entry, nbytes);
  }
  if (place == BodyPlace::kStage &&
      !Stage(body.operation, entry, nbytes, out)) {
    return true;
  }
  if (place == BodyPlace::kRegion) ++entry.region_reads;
  known.state = BodyState::kReading;
  known.place = place;
  known.lane = lane;
  known.generation = body.generation;
  known.attempt = body.attempt;
  Read(lane, body, place, out);
  return true;
}

// Nobody wants it, but it is in the way of what comes after it.
bool ReceiveMachine::Sink(int lane, const Parked& body, Actions& out) {
  if (lanes_[lane].strays != 0) return false;
  Read(lane, body, BodyPlace::kSink, out);
  return true;
}

bool ReceiveMachine::Stage(OperationId id, Entry& entry, uint64_t nbytes,
                           Actions& out) {
  uint64_t window = settings_.limits.eager_bytes;
  if (nbytes > window || staged_bytes_ > window - nbytes) {
    Lie(id,
        absl::StrCat("a body of ", nbytes, " bytes before its GRANT, with ",
                     staged_bytes_, " of eager_bytes = ", window, " in use"),
        out);
    return false;
  }
  entry.staged_bytes += nbytes;
  staged_bytes_ += nbytes;
  return true;
}

void ReceiveMachine::Unstage(Entry& entry, uint64_t nbytes) {
  entry.staged_bytes -= nbytes;
  staged_bytes_ -= nbytes;
}

void ReceiveMachine::Read(int lane, const Parked& body, BodyPlace place,
                          Actions& out) {
  ReceiveAction read = Make(Kind::kRead, body.operation);
  read.lane = lane;
  read.generation = body.generation;
  read.body = body.body;
  read.place = place;
  if (place == BodyPlace::kSink) ++lanes_[lane].strays;
  out.push_back(std::move(read));
}

void ReceiveMachine::TakeParked(Actions& out) {
  for (int lane = 1; lane < static_cast<int>(lanes_.size()); ++lane) {
    Parked& parked = lanes_[lane].parked;
    if (parked.used && TakeBody(lane, parked, out)) parked.used = false;
  }
}

void ReceiveMachine::OnBodyRead(int lane, OperationId id, uint32_t body,
                                BodyPlace place, bool ok, Actions& out) {
  auto found = operations_.find(id);
  const bool over = found == operations_.end() || found->second.closed;
  if (place == BodyPlace::kSink || (place == BodyPlace::kStage && over)) {
    --lanes_[lane].strays;
  }
  if (place != BodyPlace::kSink && found != operations_.end()) {
    HaveRead(id, found->second, body, place, ok, out);
  }
  TakeParked(out);
}

void ReceiveMachine::Fail(OperationId id, absl::Status why, Actions& out) {
  auto found = operations_.find(id);
  if (found == operations_.end() || found->second.closed) return;
  CloseOperation(id, found->second, std::move(why), out);
  MaybeDrop(id, out);
}

void ReceiveMachine::HaveRead(OperationId id, Entry& entry, uint32_t body,
                              BodyPlace place, bool ok, Actions& out) {
  BodyEntry& known = entry.bodies[body];
  if (place == BodyPlace::kRegion) --entry.region_reads;
  if (ok) {
    known.state = BodyState::kHave;
    --entry.missing;
  } else {
    known.state = BodyState::kMissing;
    // What was granted since holds nothing of the window any more.
    if (place == BodyPlace::kStage && !entry.granted && !entry.closed) {
      Unstage(entry, entry.header.body_nbytes[body]);
    }
  }
  if (entry.closed) {
    MaybeDrop(id, out);
  } else {
    MaybeDigest(id, entry, out);
    MaybeDeliver(id, entry, out);
  }
}

// What is complete is digested by its delivery.
void ReceiveMachine::MaybeDigest(OperationId id, Entry& entry, Actions& out) {
  if (!settings_.digests || !entry.header.may_be_eager || !entry.granted ||
      entry.digesting || entry.digested_in_vain || IsComplete(entry)) {
    return;
  }
  uint32_t end = entry.digested;
  while (end < entry.bodies.size() &&
         entry.bodies[end].state == BodyState::kHave) {
    ++end;
  }
  if (end == entry.digested) return;
  ReceiveAction digest = Make(Kind::kDigest, id);
  digest.digested = std::exchange(entry.digested, end);
  digest.body = end;
  entry.digesting = true;
  out.push_back(std::move(digest));
}

void ReceiveMachine::OnDigested(OperationId id, Actions& out) {
  Entry& entry = operations_.at(id);
  entry.digesting = false;
  if (entry.closed) return MaybeDrop(id, out);
  TakeParked(out);
  MaybeDigest(id, entry, out);
  MaybeDeliver(id, entry, out);
}

void ReceiveMachine::OnTrailer(OperationId id,
                               absl::Span<const BodyAttempt> again,
                               Actions& out) {
  if (ended_) return;
  if (id > newest_) return Lie(id, "TRAILER before its HEADER", out);
  auto found = operations_.find(id);
  if (found == operations_.end() || found->second.closed) return;
  Entry& entry = found->second;
  if (entry.header.is_inline) return Lie(id, "TRAILER without bodies", out);
  for (const BodyAttempt& body : again) {
    if (body.body >= entry.bodies.size()) {
      return Lie(id,
                 absl::StrCat("TRAILER for body ", body.body, " of ",
                              entry.bodies.size()),
                 out);
    }
    entry.bodies[body.body].wanted_attempt = body.attempt;
  }
  entry.has_trailer = true;
  MaybeDeliver(id, entry, out);
}

// Only the attempt that the trailer names counts: see SendMachine::OnLaneEnded.
bool ReceiveMachine::IsComplete(const Entry& entry) {
  return entry.granted && entry.missing == 0 && entry.has_trailer &&
         std::all_of(entry.bodies.begin(), entry.bodies.end(),
                     [](const BodyEntry& body) {
                       return body.attempt == body.wanted_attempt;
                     });
}

void ReceiveMachine::MaybeDeliver(OperationId id, Entry& entry, Actions& out) {
  if (entry.closed || entry.receive == 0) return;
  if (!entry.header.is_inline) {
    if (entry.state != State::kReading || entry.digesting ||
        !IsComplete(entry)) {
      return;
    }
  }
  entry.state = State::kDelivering;
  ReceiveAction deliver = Make(Kind::kDeliver, id);
  deliver.receive = entry.receive;
  deliver.digested = entry.digested;
  deadlines_.erase({receives_.at(entry.receive).deadline, entry.receive});
  receives_.erase(entry.receive);  // its user hears from the delivery
  out.push_back(std::move(deliver));
}

void ReceiveMachine::OnDelivered(OperationId id, absl::Status status,
                                 Actions& out) {
  if (!ended_) out.push_back(MakeWithStatus(Kind::kAck, id, std::move(status)));
  out.push_back(Make(Kind::kDrop, id));
  StopCounting(operations_.at(id));
  operations_.erase(id);
  TakeParked(out);
}

void ReceiveMachine::OnCancel(OperationId id, absl::Status why, Actions& out) {
  if (ended_) return;
  if (id > newest_) return Lie(id, "CANCEL before its HEADER", out);
  auto found = operations_.find(id);
  if (found == operations_.end()) return;
  Entry& entry = found->second;
  if (entry.closed || entry.state == State::kDelivering) return;
  CloseOperation(
      id, entry,
      absl::Status(why.code(),
                   absl::StrCat("given up by the sender: ", why.message())),
      out);
  MaybeDrop(id, out);
}

void ReceiveMachine::Cancel(ReceiveId id, absl::Status why, Actions& out) {
  auto found = receives_.find(id);
  if (found == receives_.end()) return;
  OperationId operation = found->second.operation;
  if (operation == 0) return FinishReceive(id, std::move(why), out);
  Entry& entry = operations_.at(operation);
  if (entry.closed) {
    Fence(operation, entry, out);
  } else {
    CloseOperation(operation, entry, std::move(why), out);
  }
  MaybeDrop(operation, out);
}

// Says the last word on an operation that will not be delivered.
void ReceiveMachine::CloseOperation(OperationId id, Entry& entry,
                                    absl::Status status, Actions& out) {
  entry.closed = true;
  entry.status = std::move(status);
  StopWaiting(id, entry);
  StopCounting(entry);
  ReleaseWindow(entry);
  for (const BodyEntry& body : entry.bodies) {
    if (body.state == BodyState::kReading && body.place == BodyPlace::kStage) {
      ++lanes_[body.lane].strays;
    }
  }
  if (!ended_) {
    out.push_back(MakeWithStatus(entry.granted ? Kind::kAck : Kind::kRefuse, id,
                                 entry.status));
  }
  Fence(id, entry, out);
  TakeParked(out);
}

// Makes the transport let go of the message's memory.
void ReceiveMachine::Fence(OperationId id, const Entry& entry, Actions& out) {
  if (entry.region_reads == 0 || ended_) return;
  std::set<std::pair<int, uint32_t>> lanes;
  for (const BodyEntry& body : entry.bodies) {
    if (body.state == BodyState::kReading && body.place == BodyPlace::kRegion) {
      lanes.insert({body.lane, body.generation});
    }
  }
  for (const auto& [lane, generation] : lanes) {
    ReceiveAction reset = Make(Kind::kResetLane, id);
    reset.lane = lane;
    reset.generation = generation;
    out.push_back(std::move(reset));
  }
}

void ReceiveMachine::MaybeDrop(OperationId id, Actions& out) {
  auto found = operations_.find(id);
  if (found == operations_.end()) return;
  Entry& entry = found->second;
  if (!entry.closed || entry.region_reads != 0 || entry.digesting ||
      entry.state == State::kAllocating || entry.state == State::kDelivering) {
    return;
  }
  ReceiveId receive = entry.receive;
  absl::Status status = std::move(entry.status);
  operations_.erase(found);
  out.push_back(Make(Kind::kDrop, id));
  if (receive != 0) FinishReceive(receive, std::move(status), out);
}

void ReceiveMachine::FinishReceive(ReceiveId id, absl::Status status,
                                   Actions& out) {
  deadlines_.erase({receives_.at(id).deadline, id});
  UnpairedLike(id).erase(id);
  receives_.erase(id);
  ReceiveAction finish;
  finish.kind = Kind::kFinishReceive;
  finish.receive = id;
  finish.status = std::move(status);
  out.push_back(std::move(finish));
}

void ReceiveMachine::OnLaneEnded(int lane, Actions& out) {
  lanes_[lane].parked.used = false;
  TakeParked(out);
}

void ReceiveMachine::OnTime(absl::Time now, Actions& out) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    ReceiveId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Cancel(id, absl::DeadlineExceededError("nothing was received in time"),
           out);
  }
}

absl::Time ReceiveMachine::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture()
                            : deadlines_.begin()->first;
}

void ReceiveMachine::End(absl::Status why, Actions& out) {
  if (ended_) return;
  ended_ = true;
  why_ = why;
  for (Lane& lane : lanes_) lane.parked.used = false;
  std::vector<OperationId> operations;
  for (const auto& [id, entry] : operations_) operations.push_back(id);
  for (OperationId id : operations) {
    Entry& entry = operations_.at(id);
    if (!entry.closed && entry.state != State::kDelivering) {
      CloseOperation(id, entry, why, out);
    }
    MaybeDrop(id, out);
  }
  std::vector<ReceiveId> unpaired(naming_.begin(), naming_.end());
  unpaired.insert(unpaired.end(), taking_any_.begin(), taking_any_.end());
  for (ReceiveId id : unpaired) FinishReceive(id, why, out);
}

void ReceiveMachine::ReleaseWindow(Entry& entry) {
  staged_bytes_ -= entry.staged_bytes;
  entry.staged_bytes = 0;
}

void ReceiveMachine::Lie(OperationId id, absl::string_view what, Actions& out) {
  out.push_back(MakeWithStatus(Kind::kEndLink, id,
                               absl::InvalidArgumentError(absl::StrCat(
                                   "the peer broke the transfer protocol: ",
                                   what, " (operation ", id, ")"))));
}

}  // namespace tensorferry
