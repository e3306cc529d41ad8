#include "transfer/send_machine.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using Kind = SendAction::Kind;

SendAction Make(Kind kind, OperationId id) {
  SendAction action;
  action.kind = kind;
  action.operation = id;
  return action;
}

SendAction MakeWithStatus(Kind kind, OperationId id, absl::Status status) {
  SendAction action = Make(kind, id);
  action.status = std::move(status);
  return action;
}

// 0: it is not copied first.
uint64_t CopiedOn(const SendMachine::Request& request, uint32_t body) {
  return request.copied_on.empty() ? 0 : request.copied_on[body];
}

}  // namespace

SendMachine::SendMachine(Settings settings)
    : settings_(settings), lanes_(settings.body_lanes + 1) {}

void SendMachine::OnUp(Actions& out) {
  up_ = true;
  BeginQueued(out);
}

void SendMachine::Submit(OperationId id, Request request, Actions& out) {
  Entry& entry = operations_[id];
  entry.bodies.resize(request.body_nbytes.size());
  entry.unwritten = static_cast<uint32_t>(entry.bodies.size());
  entry.request = std::move(request);
  absl::Status status = CheckQueue(entry);
  if (!status.ok()) {
    operations_.erase(id);
    out.push_back(MakeWithStatus(Kind::kFinish, id, std::move(status)));
    return;
  }
  if (entry.request.deadline != absl::InfiniteFuture()) {
    deadlines_.insert({entry.request.deadline, id});
  }
  ++queued_;
  queued_bytes_ += entry.request.nbytes;
  BeginQueued(out);
}

absl::Status SendMachine::CheckQueue(const Entry& entry) const {
  if (ended_) return why_;
  if (up_ && queued_ == 0 && MayBegin(entry)) return absl::OkStatus();
  const Limits& limits = settings_.limits;
  if (queued_ >= limits.operations_queued) {
    return absl::ResourceExhaustedError(
        absl::StrCat(queued_,
                     " operations wait to be sent, the limit "
                     "operations_queued is ",
                     limits.operations_queued));
  }
  if (entry.request.nbytes > limits.bytes_queued - queued_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        queued_bytes_, " bytes wait to be sent, ", entry.request.nbytes,
        " more pass the limit bytes_queued of ", limits.bytes_queued));
  }
  return absl::OkStatus();
}

// A message larger than bytes_in_flight goes alone.
bool SendMachine::MayBegin(const Entry& entry) const {
  if (in_flight_ == 0) return true;
  const Limits& limits = settings_.limits;
  return in_flight_ < limits.operations_in_flight &&
         in_flight_bytes_ <= limits.bytes_in_flight &&
         entry.request.nbytes <= limits.bytes_in_flight - in_flight_bytes_;
}

// Headers leave in the order of ids, so what has not begun is what comes after
// the last that has.
void SendMachine::BeginQueued(Actions& out) {
  if (!up_ || ended_) return;
  for (auto next = operations_.upper_bound(last_begun_);
       next != operations_.end() && MayBegin(next->second); ++next) {
    Begin(next->first, next->second, out);
  }
  WriteBodies(out);
}

void SendMachine::Begin(OperationId id, Entry& entry, Actions& out) {
  entry.begun = true;
  last_begun_ = id;
  --queued_;
  queued_bytes_ -= entry.request.nbytes;
  ++in_flight_;
  in_flight_bytes_ += entry.request.nbytes;
  out.push_back(Make(Kind::kHeader, id));
  if (!entry.request.is_inline) turn_.push_back(id);
}

void SendMachine::Cancel(OperationId id, absl::Status why, Actions& out) {
  auto found = operations_.find(id);
  if (found == operations_.end() || found->second.finished) return;
  Entry& entry = found->second;
  bool tell_peer = entry.begun && !entry.ending && !entry.closed && !ended_;
  if (tell_peer) {
    out.push_back(MakeWithStatus(Kind::kCancelFrame, id, why));
  }
  Decide(entry, std::move(why));
  Fence(id, entry, out);
  MaybeFinish(id, out);
  BeginQueued(out);
}

// A frame about an operation that is not begun, or that the peer has said its
// last word on, is a lie: one that is begun stays until that word.
SendMachine::Entry* SendMachine::FindBegun(OperationId id,
                                           absl::string_view frame,
                                           Actions& out) {
  auto found = operations_.find(id);
  if (found != operations_.end() && found->second.begun &&
      !found->second.closed) {
    return &found->second;
  }
  Lie(id, absl::StrCat(frame, " for an operation that is not under way"), out);
  return nullptr;
}

void SendMachine::OnGrant(OperationId id, Actions& out) {
  Entry* entry = FindBegun(id, "GRANT", out);
  if (entry == nullptr) return;
  if (entry->request.is_inline) return Lie(id, "GRANT without bodies", out);
  if (entry->granted) return Lie(id, "second GRANT", out);
  entry->granted = true;
  ReleaseWindow(*entry);
  WriteBodies(out);
}

void SendMachine::OnRefuse(OperationId id, absl::Status status, Actions& out) {
  Entry* entry = FindBegun(id, "REFUSE", out);
  if (entry == nullptr) return;
  if (entry->granted) return Lie(id, "REFUSE after GRANT", out);
  entry->closed = true;
  ReleaseWindow(*entry);
  Decide(*entry, absl::Status(status.code(),
                              absl::StrCat("refused: ", status.message())));
  MaybeFinish(id, out);
  BeginQueued(out);
}

void SendMachine::OnAck(OperationId id, absl::Status status, Actions& out) {
  Entry* entry = FindBegun(id, "ACK", out);
  if (entry == nullptr) return;
  if (status.ok() && !entry->request.is_inline && !entry->trailer_ever) {
    return Lie(id, "ACK of what was not sent yet", out);
  }
  entry->closed = true;
  ReleaseWindow(*entry);
  Decide(*entry, std::move(status));
  MaybeFinish(id, out);
  BeginQueued(out);
}

void SendMachine::OnDigest(OperationId id, Actions& out) {
  auto found = operations_.find(id);
  if (found == operations_.end()) return;
  found->second.digest_running = false;
  MaybeSendTrailer(id, found->second, out);
  MaybeFinish(id, out);
  BeginQueued(out);
}

void SendMachine::OnBodyWritten(int lane, OperationId id, uint32_t body,
                                bool ok, Actions& out) {
  --lanes_[lane].writes;
  if (!ok) lanes_[lane].up = false;
  auto found = operations_.find(id);
  if (found == operations_.end()) return;
  Entry& entry = found->second;
  --entry.writes;
  entry.bodies[body].state = ok ? BodyState::kWritten : BodyState::kLost;
  if (ok) --entry.unwritten;
  ReleaseCopy(entry, body);
  MaybeSendTrailer(id, entry, out);
  MaybeFinish(id, out);
  BeginQueued(out);
}

void SendMachine::OnBodyCopied(OperationId id, uint32_t body, bool ok,
                               Actions& out) {
  Entry& entry = operations_.at(id);
  --entry.copying;
  if (!ok || entry.ending) {
    entry.bodies[body].state = BodyState::kLost;
    ReleaseCopy(entry, body);
  } else {
    entry.bodies[body].state = BodyState::kCopied;
    copied_.push_back({id, body});
  }
  MaybeFinish(id, out);
  BeginQueued(out);
}

void SendMachine::OnLaneUp(int lane, uint32_t generation, Actions& out) {
  lanes_[lane] = {true, generation, 0};
  BeginQueued(out);
}

// What was written to the lane may not have arrived: operations that the peer
// has not acknowledged send it again, and the trailer once more. That says
// which attempt of each body counts: one that the transport let go of by
// itself, so that the peer never delivers bytes that it read while a lane was
// closing and that their user may have written to since.
void SendMachine::OnLaneEnded(int lane, Actions& out) {
  lanes_[lane].up = false;
  for (auto& [id, entry] : operations_) {
    if (entry.ending || entry.closed || !entry.begun) continue;
    bool had_body_to_send = HasBodyToSend(entry);
    bool again = false;
    for (uint32_t i = 0; i < entry.bodies.size(); ++i) {
      BodyEntry& body = entry.bodies[i];
      bool written = body.state == BodyState::kWritten;
      bool lost = body.state == BodyState::kLost;
      if (body.lane != lane || (!written && !lost)) continue;
      if (written) ++entry.unwritten;
      body.state = BodyState::kToSend;
      ++body.attempt;
      entry.next_body = std::min(entry.next_body, i);
      again = true;
    }
    if (!again) continue;
    entry.trailer_sent = false;
    if (!had_body_to_send) turn_.push_back(id);
  }
  WriteBodies(out);
}

void SendMachine::OnTime(absl::Time now, Actions& out) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    OperationId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Cancel(id, absl::DeadlineExceededError("not acknowledged in time"), out);
  }
}

void SendMachine::End(absl::Status why, Actions& out) {
  if (ended_) return;
  ended_ = true;
  why_ = why;
  for (Lane& lane : lanes_) lane.up = false;
  turn_.clear();
  std::vector<OperationId> ids;
  for (auto& [id, entry] : operations_) ids.push_back(id);
  for (OperationId id : ids) {
    Entry& entry = operations_.at(id);
    entry.closed = true;
    Decide(entry, why);
    MaybeFinish(id, out);
  }
}

std::vector<BodyAttempt> SendMachine::AttemptsOf(OperationId id) const {
  std::vector<BodyAttempt> again;
  const std::vector<BodyEntry>& bodies = operations_.at(id).bodies;
  for (uint32_t i = 0; i < bodies.size(); ++i) {
    if (bodies[i].attempt != 0) again.push_back({i, bodies[i].attempt});
  }
  return again;
}

absl::Time SendMachine::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture()
                            : deadlines_.begin()->first;
}

bool SendMachine::HasBodyToSend(const Entry& entry) const {
  return entry.next_body < entry.bodies.size();
}

// Operations take turns, body by body, so that a large one does not hold up
// those behind it.
void SendMachine::WriteBodies(Actions& out) {
  if (!up_ || ended_) return;
  WriteCopied(out);
  size_t blocked = 0;
  while (blocked < turn_.size() && FreeLane() != 0) {
    OperationId id = turn_.front();
    turn_.pop_front();
    auto found = operations_.find(id);
    if (found == operations_.end() || found->second.ending ||
        found->second.closed || !HasBodyToSend(found->second)) {
      continue;
    }
    blocked = StartNextBody(id, found->second, out) ? 0 : blocked + 1;
    if (HasBodyToSend(found->second)) turn_.push_back(id);
  }
}

void SendMachine::WriteCopied(Actions& out) {
  while (!copied_.empty() && FreeLane() != 0) {
    const auto [id, index] = copied_.front();
    copied_.pop_front();
    auto found = operations_.find(id);
    if (found == operations_.end() || found->second.ending) continue;
    WriteBody(id, found->second, index, out);
  }
}

// The lane with the least to do; 0: none.
int SendMachine::FreeLane() const {
  int best = 0;
  for (int lane = 1; lane < static_cast<int>(lanes_.size()); ++lane) {
    if (!lanes_[lane].up || lanes_[lane].writes >= settings_.writes_per_lane) {
      continue;
    }
    if (best == 0 || lanes_[lane].writes < lanes_[best].writes) best = lane;
  }
  return best;
}

bool SendMachine::MayWrite(const Entry& entry, const BodyEntry& body,
                           uint64_t nbytes) const {
  if (entry.granted || body.charged) return true;
  uint64_t window = settings_.limits.eager_bytes;
  return entry.request.may_be_eager && nbytes <= window &&
         eager_bytes_ <= window - nbytes;
}

// Writes it, or has it copied first.
bool SendMachine::StartNextBody(OperationId id, Entry& entry, Actions& out) {
  uint32_t index = entry.next_body;
  BodyEntry& body = entry.bodies[index];
  uint64_t nbytes = entry.request.body_nbytes[index];
  const uint64_t copied_on = CopiedOn(entry.request, index);
  if (!MayWrite(entry, body, nbytes) || !MayCopy(entry, copied_on)) {
    return false;
  }
  if (!entry.granted && !body.charged) {
    body.charged = true;
    entry.eager_bytes += nbytes;
    eager_bytes_ += nbytes;
  }
  if (!entry.request.digest_last) MaybeDigest(id, entry, out);
  if (copied_on != 0) {
    body.state = BodyState::kCopying;
    body.has_copy = true;
    ++entry.copying;
    ++entry.copies;
    ++copies_[copied_on];
    SendAction copy = Make(Kind::kCopyBody, id);
    copy.body = index;
    out.push_back(std::move(copy));
  } else {
    WriteBody(id, entry, index, out);
  }
  do {
    ++entry.next_body;
  } while (HasBodyToSend(entry) &&
           entry.bodies[entry.next_body].state != BodyState::kToSend);
  return true;
}

void SendMachine::WriteBody(OperationId id, Entry& entry, uint32_t index,
                            Actions& out) {
  BodyEntry& body = entry.bodies[index];
  int lane = FreeLane();
  ++lanes_[lane].writes;
  ++entry.writes;
  body.state = BodyState::kWriting;
  body.lane = lane;
  SendAction write = Make(Kind::kWriteBody, id);
  write.lane = lane;
  write.generation = lanes_[lane].generation;
  write.body = index;
  write.attempt = body.attempt;
  out.push_back(std::move(write));
}

bool SendMachine::MayCopy(const Entry& entry, uint64_t stream) const {
  if (stream == 0) return true;
  const auto of_stream = copies_.find(stream);
  return entry.copies < settings_.copies_per_operation &&
         (of_stream == copies_.end() ||
          of_stream->second < settings_.copies_per_stream);
}

void SendMachine::ReleaseCopy(Entry& entry, uint32_t body) {
  if (!std::exchange(entry.bodies[body].has_copy, false)) return;
  --entry.copies;
  const auto of_stream = copies_.find(CopiedOn(entry.request, body));
  if (--of_stream->second == 0) copies_.erase(of_stream);
}

void SendMachine::ReleaseCopies(Entry& entry) {
  for (uint32_t body = 0; entry.copies != 0; ++body) ReleaseCopy(entry, body);
}

void SendMachine::MaybeDigest(OperationId id, Entry& entry, Actions& out) {
  if (!settings_.digests || entry.digest_started) return;
  entry.digest_started = entry.digest_running = true;
  out.push_back(Make(Kind::kDigest, id));
}

void SendMachine::MaybeSendTrailer(OperationId id, Entry& entry, Actions& out) {
  if (!entry.begun || entry.ending || entry.closed || entry.trailer_sent ||
      entry.request.is_inline || entry.unwritten != 0) {
    return;
  }
  MaybeDigest(id, entry, out);
  if (entry.digest_running) return;
  entry.trailer_sent = entry.trailer_ever = true;
  out.push_back(Make(Kind::kTrailer, id));
}

// The first status counts.
void SendMachine::Decide(Entry& entry, absl::Status status) {
  if (entry.ending) return;
  entry.ending = true;
  entry.status = std::move(status);
}

// Makes the transport let go of the operation's buffers.
void SendMachine::Fence(OperationId id, const Entry& entry, Actions& out) {
  if (entry.writes == 0 || ended_) return;
  for (int lane = 1; lane < static_cast<int>(lanes_.size()); ++lane) {
    bool holds = std::any_of(
        entry.bodies.begin(), entry.bodies.end(), [&](const BodyEntry& body) {
          return body.lane == lane && body.state == BodyState::kWriting;
        });
    if (!holds) continue;
    lanes_[lane].up = false;
    SendAction reset = Make(Kind::kResetLane, id);
    reset.lane = lane;
    reset.generation = lanes_[lane].generation;
    out.push_back(std::move(reset));
  }
}

void SendMachine::MaybeFinish(OperationId id, Actions& out) {
  auto found = operations_.find(id);
  Entry& entry = found->second;
  const bool is_read = entry.writes != 0 || entry.copying != 0;
  if (!entry.ending || is_read || entry.digest_running) return;
  if (!entry.finished) {
    entry.finished = true;
    ReleaseCopies(entry);
    deadlines_.erase({entry.request.deadline, id});
    out.push_back(MakeWithStatus(Kind::kFinish, id, entry.status));
  }
  if (entry.begun && !entry.closed) return;
  if (entry.begun) {
    --in_flight_;
    in_flight_bytes_ -= entry.request.nbytes;
  } else {
    --queued_;
    queued_bytes_ -= entry.request.nbytes;
  }
  ReleaseWindow(entry);
  operations_.erase(found);
}

void SendMachine::ReleaseWindow(Entry& entry) {
  eager_bytes_ -= entry.eager_bytes;
  entry.eager_bytes = 0;
}

void SendMachine::Lie(OperationId id, absl::string_view what, Actions& out) {
  out.push_back(MakeWithStatus(Kind::kEndLink, id,
                               absl::InvalidArgumentError(absl::StrCat(
                                   "the peer broke the transfer protocol: ",
                                   what, " (operation ", id, ")"))));
}

}  // namespace tensorferry
