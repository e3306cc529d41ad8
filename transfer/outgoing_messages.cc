#include "transfer/outgoing_messages.h"

#include <tensorpipe/common/cpu_buffer.h>
#include <tensorpipe/core/message.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "channel/local_channel.h"
#include "serialization/chunked_digests.h"
#include "serialization/digest.h"
#include "serialization/serialize.h"
#include "serialization/stream_fence.h"
#include "serialization/streams.h"
#include "transfer/manifest_bodies.h"
#include "transfer/rules.h"

namespace tensorferry {
namespace {

// So many are compared with each other in a few microseconds.
constexpr int kComparedTensors = 64;

SendMachine::Settings SettingsOf(const LinkHost& host) {
  SendMachine::Settings settings;
  settings.limits = host.rules.limits;
  settings.body_lanes = host.lanes->body_lanes();
  settings.digests = host.rules.digests;
  return settings;
}

// The peer takes a longer one for a lie.
absl::Status CheckLength(const std::string& manifest, const Limits& limits) {
  if (manifest.size() <= limits.manifest_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the manifest has ", manifest.size(),
      " bytes, over the limit manifest_bytes of ", limits.manifest_bytes));
}

static_assert(LendableMemory::kSmallestBlock == kSmallestLent);

// Buffers that lie there whole, so that a peer can have them where they are.
std::vector<uint32_t> Lendable(const WriteBuffers& buffers,
                               const LendableMemory& memory) {
  std::vector<uint32_t> lendable;
  const Manifest& manifest = buffers.manifest();
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    const Region& region = buffers.regions()[i];
    if (region.device().is_cpu() && manifest.buffer_target(i).is_cpu() &&
        region.nbytes >= kSmallestLent &&
        memory.PlaceOf(region.data, region.nbytes)) {
      lendable.push_back(static_cast<uint32_t>(i));
    }
  }
  return lendable;
}

void Cut(const LinkHost& host, Sending& sending) {
  const Manifest& manifest = sending.buffers.manifest();
  sending.cut = BodiesOf(manifest, host.rules.piece_bytes, sending.lendable);
  // What may stay where it is waits for what the receiver says of it.
  sending.may_be_eager = AllOnHost(manifest) && sending.lendable.empty();
}

Crossing CrossingOfBuffer(const TransferRules& rules, const Manifest& manifest,
                          int buffer) {
  return CrossingOf(rules, manifest.buffer_source(buffer),
                    manifest.buffer_target(buffer));
}

// Whether a channel may copy so much of a buffer from where it lies to a pool
// of the peer's.
bool MayGoToAPool(const TransferRules& rules, const Manifest& manifest,
                  int buffer, uint64_t nbytes) {
  const Crossing crossing = CrossingOfBuffer(rules, manifest, buffer);
  return nbytes >= LocalChannelOptions::kPoolFromBytes && !crossing.copied &&
         crossing.own.is_cpu() && crossing.peer.is_cpu();
}

std::string Gather(const WriteBuffers& buffers) {
  std::string bytes;
  bytes.reserve(buffers.nbytes());
  for (const Region& region : buffers.regions()) {
    bytes.append(reinterpret_cast<const char*>(region.data), region.nbytes);
  }
  return bytes;
}

// Not 0. Streams that have the same one share a bound, no more.
uint64_t NumberOf(const c10::Stream& stream) {
  return std::hash<c10::Stream>{}(stream) | 1;
}

// To let go of a user's tensors may take its time, if nobody else holds them.
bool IsQuickToDrop(const Sending& sending) {
  const WriteBuffers& buffers = sending.buffers;
  if (buffers.regions().empty()) return true;
  return sending.lend == nullptr &&
         buffers.manifest().tensor_count() <= kComparedTensors &&
         buffers.others_hold_memory();
}

}  // namespace

OutgoingMessages::OutgoingMessages(LinkHost* host)
    : host_(host), machine_(SettingsOf(*host)) {}

absl::Status OutgoingMessages::Prepare(const LinkHost& host,
                                       TensorMessage message,
                                       const Envelope& envelope,
                                       const SendOptions& wishes,
                                       Sending& sending) {
  SerializeOptions options;
  options.placement = host.rules.outgoing;
  options.limits = host.rules.limits;
  options.streams = OrElse(wishes.streams, host.rules.send_streams);
  options.ready_on = wishes.ready_on;
  options.converters = host.converters;
  FERRY_ASSIGN_OR_RETURN(sending.buffers,
                         Serialize(std::move(message), options));
  const Manifest& manifest = sending.buffers.manifest();
  bool on_host = AllOnHost(manifest);
  sending.done_is_quick = wishes.done_is_quick;
  if (wishes.digest_devices) sending.digest_scope = DigestScope::kDevicesToo;
  HeaderFrame& header = sending.header;
  header.plan_digest = host.rules.plan_digest;
  header.manifest = EncodeManifest(manifest);
  FERRY_RETURN_IF_ERROR(CheckLength(header.manifest, host.rules.limits));
  header.envelope = envelope;
  header.is_inline =
      manifest.BytesOnWire() == 0 ||
      (on_host && manifest.BytesOnWire() <= host.rules.inline_bytes);
  if (!header.is_inline) {
    if (wishes.lend != nullptr) {
      sending.lend = wishes.lend;
      sending.lendable = Lendable(sending.buffers, *wishes.lend);
      for (const uint32_t buffer : sending.lendable) {
        const void* const data = sending.buffers.regions()[buffer].data;
        sending.loans.push_back(sending.lend->Lend(data));
      }
    }
    Cut(host, sending);
    return absl::OkStatus();
  }
  sending.inline_bytes = Gather(sending.buffers);
  if (host.rules.digests) {
    header.digests =
        DigestOf(manifest, sending.buffers.regions(), DigestScope::kHost);
    sending.digests = header.digests;
  }
  sending.buffers.DropBytes();
  return absl::OkStatus();
}

template <class Event>
void OutgoingMessages::Run(Event event) {
  SendMachine::Actions actions;
  event(actions);
  for (SendAction& action : actions) Do(action);
  while (!unsendable_.empty()) {
    RefuseFrame refuse = std::move(unsendable_.back());
    unsendable_.pop_back();
    actions.clear();
    machine_.OnRefuse(refuse.operation, std::move(refuse.status), actions);
    for (SendAction& action : actions) Do(action);
  }
  host_->AfterEvent();
}

void OutgoingMessages::Do(SendAction& action) {
  switch (action.kind) {
    case SendAction::Kind::kHeader:
      return SendHeader(action.operation);
    case SendAction::Kind::kDigest:
      return ComputeDigest(action.operation);
    case SendAction::Kind::kCopyBody:
      return CopyBody(action);
    case SendAction::Kind::kWriteBody:
      return WriteBody(action);
    case SendAction::Kind::kTrailer:
      return SendTrailer(action.operation);
    case SendAction::Kind::kCancelFrame:
      return host_->lanes->SendFrame(
          CancelFrame{action.operation, std::move(action.status)});
    case SendAction::Kind::kResetLane:
      return host_->lanes->Reset(
          action.lane, action.generation,
          absl::CancelledError(absl::StrCat("ended to give back the buffers of "
                                            "operation ",
                                            action.operation)));
    case SendAction::Kind::kFinish:
      return Finish(action.operation, std::move(action.status));
    case SendAction::Kind::kEndLink:
      return host_->EndSoon(std::move(action.status));
  }
}

void OutgoingMessages::OnUp() {
  Run([&](auto& out) { machine_.OnUp(out); });
}

void OutgoingMessages::Submit(OperationId id,
                              std::unique_ptr<Sending> sending) {
  if (!sending->lendable.empty() &&
      (!host_->lanes->CarryLoans() || loans_.size() >= kMostLoans)) {
    sending->lendable.clear();
    Cut(*host_, *sending);
  }
  sending->header.lent = sending->lendable;
  if (host_->rules.digests && copy_digests_.are_likely()) {
    DigestAlong(*sending);
  }
  SendMachine::Request request;
  request.digest_last = sending->digested_along != nullptr;
  request.is_inline = sending->header.is_inline;
  request.may_be_eager = sending->may_be_eager;
  request.nbytes = sending->buffers.nbytes();
  request.deadline = sending->deadline;
  for (const Body& body : sending->cut.bodies) {
    request.body_nbytes.push_back(body.nbytes);
  }
  request.copied_on = StreamsOfCopies(*sending);
  sending->header.operation = id;
  sendings_[id] = std::move(sending);
  Run([&](auto& out) { machine_.Submit(id, std::move(request), out); });
}

// By body; of several streams the first, which has to do.
std::vector<uint64_t> OutgoingMessages::StreamsOfCopies(
    const Sending& sending) const {
  std::vector<uint64_t> streams;
  if (host_->rules.through_host.empty()) return streams;
  const Manifest& manifest = sending.buffers.manifest();
  for (size_t body = 0; body < sending.cut.bodies.size(); ++body) {
    const absl::Span<const Piece> pieces = sending.cut.PiecesOf(body);
    const auto copied =
        std::find_if(pieces.begin(), pieces.end(), [&](const Piece& piece) {
          return CrossingOfBuffer(host_->rules, manifest, piece.buffer).copied;
        });
    streams.push_back(
        copied == pieces.end()
            ? 0
            : NumberOf(sending.buffers.regions()[copied->buffer].stream));
  }
  return streams;
}

void OutgoingMessages::DigestAlong(Sending& sending) const {
  if (sending.header.is_inline) return;
  const Manifest& manifest = sending.buffers.manifest();
  uint64_t along = 0;
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    const uint64_t nbytes = manifest.buffer_nbytes(i);
    if (MayDigestAlong(manifest, i) &&
        MayGoToAPool(host_->rules, manifest, i, nbytes)) {
      along += nbytes;
    }
  }
  // The rest is digested when all is written, and not meanwhile.
  if (along <= manifest.BytesOnWire() / 2) return;
  // For want of memory nothing is digested along.
  CatchExceptions("digests along with copies", [&] {
    sending.digested_along =
        std::make_unique<DigestsAlong>(manifest, host_->digest_helpers);
  }).IgnoreError();
}

void OutgoingMessages::Cancel(OperationId id) {
  Run([&](auto& out) {
    machine_.Cancel(id, absl::CancelledError("cancelled by its sender"), out);
  });
}

void OutgoingMessages::OnGrant(const GrantFrame& frame) {
  auto found = sendings_.find(frame.operation);
  // What comes out of turn is a lie, and the machine's to tell.
  if (found != sendings_.end() && found->second->header_sent &&
      !std::exchange(found->second->granted, true)) {
    Sending& sending = *found->second;
    if (frame.leases && sending.lendable.empty()) {
      return host_->EndSoon(absl::InvalidArgumentError(absl::StrCat(
          "the peer broke the transfer protocol: GRANT leases what was not "
          "lent (operation ",
          frame.operation, ")")));
    }
    if (frame.leases) Lend(frame.operation, sending);
  }
  Run([&](auto& out) { machine_.OnGrant(frame.operation, out); });
}

void OutgoingMessages::OnRefuse(const RefuseFrame& frame) {
  Run([&](auto& out) {
    machine_.OnRefuse(frame.operation, frame.status, out);
  });
}

void OutgoingMessages::OnAck(const AckFrame& frame) {
  Run([&](auto& out) { machine_.OnAck(frame.operation, frame.status, out); });
}

void OutgoingMessages::Lend(OperationId id, Sending& sending) {
  sending.lent = sending.lendable;
  loans_[id] = std::move(sending.loans);
  for (const uint32_t buffer : sending.lent) {
    lending_.emplace(sending.buffers.regions()[buffer].data, sending.lend);
  }
}

std::optional<BufferPool::Place> OutgoingMessages::PlaceOfLent(
    const void* data, uint64_t nbytes) const {
  auto found = lending_.find(data);
  if (found == lending_.end()) return std::nullopt;
  return found->second->PlaceOf(data, nbytes);
}

// An operation that was over here when its GRANT came has lent nothing.
void OutgoingMessages::OnReturned(const ReturnedFrame& frame) {
  for (const uint64_t operation : frame.operations) loans_.erase(operation);
}

void OutgoingMessages::OnLaneUp(int lane, uint32_t generation) {
  Run([&](auto& out) { machine_.OnLaneUp(lane, generation, out); });
}

void OutgoingMessages::OnLaneEnded(int lane) {
  Run([&](auto& out) { machine_.OnLaneEnded(lane, out); });
}

void OutgoingMessages::OnTime(absl::Time now) {
  Run([&](auto& out) { machine_.OnTime(now, out); });
}

void OutgoingMessages::End(const absl::Status& why) {
  for (auto& [id, loans] : loans_) {
    for (auto& loan : loans) loan->Lose();
  }
  loans_.clear();
  Run([&](auto& out) { machine_.End(why, out); });
}

// tensorpipe would throw, on a thread of its own, for a pair without a channel.
// Buffers are many, pairs of devices few.
absl::Status OutgoingMessages::CheckPaths(const Manifest& manifest) const {
  std::set<std::pair<DeviceId, DeviceId>> checked;
  for (int i = 0; i < manifest.buffer_count(); ++i) {
    if (manifest.buffer_nbytes(i) == 0) continue;
    const Crossing crossing = CrossingOfBuffer(host_->rules, manifest, i);
    if (!checked.insert({crossing.own, crossing.peer}).second) continue;
    for (int lane = 1; lane <= host_->lanes->body_lanes(); ++lane) {
      if (!host_->lanes->PathTo(lane, crossing.own, crossing.peer).empty()) {
        continue;
      }
      return absl::FailedPreconditionError(absl::StrCat(
          "no path of this session carries ", ToString(crossing.own), " to ",
          ToString(crossing.peer)));
    }
  }
  return absl::OkStatus();
}

void OutgoingMessages::SendHeader(OperationId id) {
  Sending& sending = *sendings_.at(id);
  if (!sending.header.is_inline) {
    absl::Status status = CheckPaths(sending.buffers.manifest());
    if (!status.ok()) return unsendable_.push_back({id, std::move(status)});
  } else {
    sending.paths.Add(
        {"inline", sending.inline_bytes.size(), absl::OkStatus()});
    bytes_sent_ += sending.inline_bytes.size();
  }
  sending.header_sent = true;
  Frame frame = std::move(sending.header);
  host_->lanes->SendFrame(frame, std::move(sending.inline_bytes));
}

// The buffers stay until OnDigest.
void OutgoingMessages::ComputeDigest(OperationId id) {
  const Sending& sending = *sendings_.at(id);
  const std::vector<Region>& regions = sending.buffers.regions();
  const bool copy = sending.digest_scope == DigestScope::kDevicesToo &&
                    !OnePerStream(regions).empty();
  if (copy) return CopyToDigest(id);
  Digest(id, HostCopies{regions, {}});
}

// Copies what of `parts` is on devices to host memory; `then` on the loop, once
// the devices have come so far.
void OutgoingMessages::CopyOut(
    std::vector<Region> parts,
    absl::AnyInvocable<void(absl::StatusOr<HostCopies>) &&> then) {
  host_->Work(LinkHost::Weight::kHeavy, [this, parts = std::move(parts),
                                         then = std::move(then)]() mutable {
    auto copies = CopyToHost(parts);
    return LinkHost::Afterwards{
        [this, parts, then = std::move(then),
         copies = std::move(copies)]() mutable {
          host_->WhenReached(
              parts, [then = std::move(then), copies = std::move(copies)](
                         absl::Status reached) mutable {
                if (copies.ok() && !reached.ok()) copies = std::move(reached);
                std::move(then)(std::move(copies));
              });
        },
        nullptr};
  });
}

void OutgoingMessages::CopyToDigest(OperationId id) {
  CopyOut(sendings_.at(id)->buffers.regions(),
          [this, id](absl::StatusOr<HostCopies> copies) {
            if (copies.ok()) return Digest(id, *std::move(copies));
            Fail(id, copies.status());
            Run([&](auto& out) { machine_.OnDigest(id, out); });
          });
}

void OutgoingMessages::Digest(OperationId id, HostCopies bytes) {
  Sending* sending = sendings_.at(id).get();
  const Manifest& manifest = sending->buffers.manifest();
  // A body that is sent once more is not digested while it is copied again.
  std::shared_ptr<ChunkedDigests> along;
  if (sending->digested_along != nullptr) {
    along = std::move(sending->digested_along->digests);
    sending->digested_along = nullptr;
  }
  const uint64_t left = along != nullptr ? along->BytesLeft()
                                         : manifest.BytesOnWire() -
                                               BytesOf(manifest, sending->lent);
  const bool heavy = left > LinkHost::kFewBytes &&
                     HasBytesToDigest(manifest, sending->digest_scope);
  host_->Work(
      heavy ? LinkHost::Weight::kHeavy : LinkHost::Weight::kLight,
      [this, id, sending, bytes = std::move(bytes), along = std::move(along)] {
        const Manifest& manifest = sending->buffers.manifest();
        const absl::Status digested = CatchExceptions("digesting", [&] {
          sending->digests =
              along != nullptr
                  ? DigestRest(manifest, bytes.regions, sending->digest_scope,
                               sending->lent, *along)
                  : DigestOf(manifest, bytes.regions, sending->digest_scope,
                             sending->lent, host_->digest_helpers);
        });
        return LinkHost::Afterwards{
            [this, id, digested] {
              if (!digested.ok()) Fail(id, digested);
              Run([&](auto& out) { machine_.OnDigest(id, out); });
            },
            nullptr};
      });
}

// Copies to host memory those pieces of the body that are on a device and cross
// as host memory. The device may stand still meanwhile.
void OutgoingMessages::CopyBody(const SendAction& action) {
  const Sending& sending = *sendings_.at(action.operation);
  const Manifest& manifest = sending.buffers.manifest();
  std::vector<Region> parts;
  for (const Piece& piece : sending.cut.PiecesOf(action.body)) {
    if (!CrossingOfBuffer(host_->rules, manifest, piece.buffer).copied)
      continue;
    Region part = sending.buffers.regions()[piece.buffer];
    part.data += piece.offset;
    part.nbytes = piece.nbytes;
    parts.push_back(part);
  }
  CopyOut(std::move(parts), [this, id = action.operation, body = action.body](
                                absl::StatusOr<HostCopies> copies) {
    const bool ok = copies.ok();
    if (ok) {
      sendings_.at(id)->host_copies[body] = *std::move(copies);
    } else {
      Fail(id, copies.status());
    }
    Run([&](auto& out) { machine_.OnBodyCopied(id, body, ok, out); });
  });
}

void OutgoingMessages::Fail(OperationId id, const absl::Status& why) {
  Run([&](auto& out) { machine_.Cancel(id, why, out); });
}

void OutgoingMessages::LoseBody(const SendAction& action) {
  host_->Later([this, action] {
    Run([&](auto& out) {
      machine_.OnBodyWritten(action.lane, action.operation, action.body,
                             /*ok=*/false, out);
    });
  });
}

// Where the pieces of a body lie that its channel may come to copy.
std::vector<const void*> OutgoingMessages::ExpectPoolCopies(
    const Sending& sending, uint32_t body) {
  std::vector<const void*> expected;
  if (!host_->rules.digests) return expected;
  const Manifest& manifest = sending.buffers.manifest();
  for (const Piece& piece : sending.cut.PiecesOf(body)) {
    if (!MayGoToAPool(host_->rules, manifest, piece.buffer, piece.nbytes)) {
      continue;
    }
    const std::byte* const data =
        sending.buffers.regions()[piece.buffer].data + piece.offset;
    copy_digests_.ExpectPiece(piece, data, manifest,
                              sending.digested_along.get());
    expected.push_back(data);
  }
  return expected;
}

void OutgoingMessages::WriteBody(const SendAction& action) {
  Sending& sending = *sendings_.at(action.operation);
  HostCopies copies;  // kept until they were written
  if (auto copied = sending.host_copies.extract(action.body)) {
    copies = std::move(copied.mapped());
  }
  tensorpipe::Message message;
  std::vector<DeviceId> sources;
  message.metadata = EncodeBodyTag(
      {action.operation, action.generation, action.body, action.attempt});
  const Manifest& manifest = sending.buffers.manifest();
  size_t copy = 0;
  for (const Piece& piece : sending.cut.PiecesOf(action.body)) {
    const Region& region = sending.buffers.regions()[piece.buffer];
    const Crossing crossing =
        CrossingOfBuffer(host_->rules, manifest, piece.buffer);
    tensorpipe::Message::Tensor tensor;
    if (crossing.copied) {
      tensor.buffer = tensorpipe::CpuBuffer{copies.regions[copy++].data};
    } else {
      const absl::Status usable = CheckStream(region);
      if (!usable.ok()) {
        // Its device has failed since Send has looked; tensorpipe would throw.
        host_->EndSoon(LinkHost::About(
            absl::StrCat("operation ", action.operation), usable));
        return LoseBody(action);
      }
      tensor.buffer = region.converter->CarriedBuffer(
          region.data + piece.offset, region.stream);
    }
    tensor.length = piece.nbytes;
    tensor.targetDevice =
        tensorpipe::Device(crossing.peer.type, crossing.peer.index);
    message.tensors.push_back(std::move(tensor));
    sources.push_back(crossing.own);
  }
  uint64_t nbytes = sending.cut.bodies[action.body].nbytes;
  host_->lanes->WriteBody(
      action.lane, std::move(message), sources,
      [this, id = action.operation, lane = action.lane, body = action.body,
       nbytes, memory = std::move(copies.memory),
       expected = ExpectPoolCopies(sending, action.body)](
          bool ok, const std::vector<PathUse>& uses) {
        for (const void* data : expected) copy_digests_.Forget(data);
        auto found = sendings_.find(id);
        if (found != sendings_.end()) found->second->paths.Add(uses);
        if (ok) bytes_sent_ += nbytes;
        Run([&](auto& out) {
          machine_.OnBodyWritten(lane, id, body, ok, out);
        });
      });
}

void OutgoingMessages::SendTrailer(OperationId id) {
  TrailerFrame trailer;
  trailer.operation = id;
  trailer.digests = sendings_.at(id)->digests;
  trailer.again = machine_.AttemptsOf(id);
  host_->lanes->SendFrame(trailer);
}

// The transport has let go of the buffers; streams may have to come so far yet.
void OutgoingMessages::Finish(OperationId id, absl::Status status) {
  auto found = sendings_.find(id);
  std::unique_ptr<Sending> sending = std::move(found->second);
  sendings_.erase(found);
  for (const uint32_t buffer : sending->lent) {
    lending_.erase(lending_.find(sending->buffers.regions()[buffer].data));
  }
  const std::vector<Region> regions = OnePerStream(sending->buffers.regions());
  host_->WhenReached(
      regions, [this, id, sending = std::move(sending),
                status = std::move(status)](absl::Status reached) mutable {
        status.Update(reached);
        TellOfEnd(id, std::move(sending), status);
      });
}

void OutgoingMessages::TellOfEnd(OperationId id,
                                 std::unique_ptr<Sending> sending,
                                 const absl::Status& status) {
  absl::StatusOr<Receipt> result;
  if (status.ok()) {
    ++messages_sent_;
    result = MakeReceipt(id, *sending);
  } else {
    result = LinkHost::About(absl::StrCat("send ", id, " to ", host_->Whom()),
                             status);
  }
  const bool quick = sending->done_is_quick && IsQuickToDrop(*sending);
  host_->Tell(
      [sending = std::move(sending), result = std::move(result)]() mutable {
        Done<Receipt> done = std::move(sending->done);
        sending.reset();  // the tensors are the user's again
        std::move(done)(std::move(result));
      },
      quick);
}

Receipt OutgoingMessages::MakeReceipt(OperationId id,
                                      const Sending& sending) const {
  Receipt receipt;
  receipt.operation = id;
  const Manifest& manifest = sending.buffers.manifest();
  receipt.bytes = sending.buffers.nbytes();
  receipt.bytes_through_host =
      BytesThroughHost(manifest, host_->rules, /*sent=*/true);
  receipt.tensors = manifest.tensor_count();
  receipt.time = host_->clock->Now() - sending.start;
  PathTally paths;
  paths.Add(host_->lanes->UnreachableWires());
  paths.Add(sending.paths.uses());
  receipt.paths = paths.uses();
  if (host_->rules.digests) receipt.digest = DigestSummary(sending.digests);
  return receipt;
}

}  // namespace tensorferry
