#include "transfer/incoming_messages.h"

#include <tensorpipe/common/cpu_buffer.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "pool/buffer_pool.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/digest.h"
#include "serialization/manifest.h"
#include "serialization/stream_fence.h"
#include "serialization/streams.h"
#include "serialization/torch_errors.h"
#include "transfer/manifest_bodies.h"
#include "transfer/rules.h"

namespace tensorferry {
namespace {

ReceiveMachine::Settings SettingsOf(const LinkHost& host) {
  ReceiveMachine::Settings settings;
  settings.limits = host.rules.limits;
  settings.body_lanes = host.lanes->body_lanes();
  settings.digests = host.rules.digests;
  settings.reserved_types = kReservedTypes;
  return settings;
}

constexpr int kFewTensors = 16;

// Of a pool, for a message of few tensors.
uint64_t RoomFor(uint64_t nbytes) { return nbytes + kFewTensors * kPageBytes; }

uint64_t BytesOf(const BodyCut& cut, uint32_t begin, uint32_t end) {
  uint64_t nbytes = 0;
  for (uint32_t body = begin; body < end; ++body) {
    nbytes += cut.bodies[body].nbytes;
  }
  return nbytes;
}

bool SameDevice(const DeviceId& ours, const tensorpipe::Device& theirs) {
  return ours.type == theirs.type && ours.index == theirs.index;
}

absl::Status WrongByteCount(absl::string_view what, uint64_t got,
                            uint64_t want) {
  return absl::DataLossError(
      absl::StrCat(what, ": ", got, " bytes, want ", want));
}

absl::Status CheckLent(const Manifest& manifest,
                       const std::vector<uint32_t>& lent) {
  for (size_t i = 0; i < lent.size(); ++i) {
    const bool grows = i == 0 || lent[i - 1] < lent[i];
    if (!grows || lent[i] >= static_cast<uint32_t>(manifest.buffer_count()) ||
        manifest.buffer_nbytes(lent[i]) < kSmallestLent ||
        !manifest.buffer_source(lent[i]).is_cpu() ||
        !manifest.buffer_target(lent[i]).is_cpu()) {
      return absl::InvalidArgumentError(
          absl::StrCat("buffer ", lent[i], " cannot be lent: not one of ",
                       manifest.buffer_count(), " of the host's memory, of ",
                       kSmallestLent, " bytes or more, in growing order"));
    }
  }
  return absl::OkStatus();
}

// No memory is needed but what the user gave.
bool AllInPlace(const Manifest& manifest,
                const std::vector<at::Tensor>& given) {
  return given.size() == static_cast<size_t>(manifest.tensor_count()) &&
         std::all_of(given.begin(), given.end(), [](const at::Tensor& tensor) {
           return tensor.layout() == at::kStrided && tensor.is_contiguous();
         });
}

uint64_t TotalOf(const tensorpipe::Descriptor& descriptor) {
  uint64_t total = 0;
  for (const auto& tensor : descriptor.tensors) total += tensor.length;
  return total;
}

bool IsForADevice(const tensorpipe::Descriptor& descriptor) {
  return std::any_of(descriptor.tensors.begin(), descriptor.tensors.end(),
                     [](const auto& tensor) {
                       return tensor.targetDevice.has_value() &&
                              tensor.targetDevice->type != "cpu";
                     });
}

bool FitsIn(uint64_t room, const tensorpipe::Descriptor& descriptor) {
  for (const auto& tensor : descriptor.tensors) {
    if (tensor.length > room) return false;
    room -= tensor.length;
  }
  return true;
}

// A region for each device of the tensors to receive into, on the stream that
// they are filled on. Devices without converter are left out: no message can
// go there.
absl::StatusOr<std::vector<Region>> FilledOn(const LinkHost& host,
                                             const Receiving& receiving) {
  std::vector<Region> filled;
  if (receiving.options.into.tensors.empty()) return filled;
  const StreamSet streams =
      OrElse(receiving.options.streams, host.rules.receive_streams);
  for (const at::Tensor& tensor : receiving.options.into.tensors) {
    if (!tensor.defined() || tensor.device().is_cpu()) continue;
    Region region;
    region.converter = ConverterRegistry::OrGlobal(host.converters)
                           .Find(tensor.device().type())
                           .value_or(nullptr);
    if (region.converter == nullptr) continue;
    FERRY_ASSIGN_OR_RETURN(region.stream,
                           StreamForDevice(streams, tensor.device()));
    filled.push_back(region);
  }
  return OnePerStream(filled);
}

}  // namespace

IncomingMessages::IncomingMessages(LinkHost* host)
    : host_(host), machine_(SettingsOf(*host)) {}

absl::Status IncomingMessages::Prepare(const LinkHost& host,
                                       Receiving& receiving) {
  return CatchTorchErrors(
      absl::StatusCode::kInvalidArgument, [] { return "receiving into"; },
      [&]() -> absl::Status {
        FERRY_ASSIGN_OR_RETURN(receiving.filled, FilledOn(host, receiving));
        for (const Region& region : receiving.filled) {
          absl::StatusOr<c10::Stream> ready =
              StreamForDevice(receiving.options.ready_on, region.device());
          FERRY_RETURN_IF_ERROR(region.converter->Order(
              ready.ok() ? *ready : CurrentStream(region.device()),
              region.stream));
        }
        return absl::OkStatus();
      });
}

template <class Event>
void IncomingMessages::Run(Event event) {
  ReceiveMachine::Actions actions;
  event(actions);
  for (ReceiveAction& action : actions) Do(action);
  host_->AfterEvent();
}

void IncomingMessages::Do(ReceiveAction& action) {
  switch (action.kind) {
    case ReceiveAction::Kind::kAllocate:
      return AllocateMemory(action);
    case ReceiveAction::Kind::kGrant:
      return Grant(action.operation);
    case ReceiveAction::Kind::kRefuse:
      return host_->lanes->SendFrame(
          RefuseFrame{action.operation, std::move(action.status)});
    case ReceiveAction::Kind::kAck:
      return host_->lanes->SendFrame(
          AckFrame{action.operation, std::move(action.status)});
    case ReceiveAction::Kind::kRead:
      return ReadBody(action);
    case ReceiveAction::Kind::kDigest:
      return DigestArrived(action);
    case ReceiveAction::Kind::kDeliver:
      return Deliver(action);
    case ReceiveAction::Kind::kFinishReceive:
      return FinishReceive(action.receive, action.status);
    case ReceiveAction::Kind::kDrop: {
      auto found = messages_.find(action.operation);
      if (found == messages_.end()) return;
      std::shared_ptr<Message> message = std::move(found->second);
      messages_.erase(found);
      // Giving back much memory takes its time. Without any there may be as
      // many messages as the peer likes, which must not wait in line.
      if (message->buffers) host_->Tell([message = std::move(message)] {});
      return;
    }
    case ReceiveAction::Kind::kResetLane:
      return host_->lanes->Reset(
          action.lane, action.generation,
          absl::CancelledError(absl::StrCat("ended to give back the memory of "
                                            "operation ",
                                            action.operation)));
    case ReceiveAction::Kind::kEndLink:
      return host_->EndSoon(std::move(action.status));
  }
}

void IncomingMessages::Receive(ReceiveId id,
                               std::unique_ptr<Receiving> receiving) {
  ReceiveFilter filter = receiving->options.filter;
  absl::Time deadline = receiving->deadline;
  receivings_[id] = std::move(receiving);
  Run([&](auto& out) {
    machine_.Receive(id, std::move(filter), deadline, out);
  });
}

void IncomingMessages::Cancel(ReceiveId id) {
  Run([&](auto& out) {
    machine_.Cancel(id, absl::CancelledError("cancelled by its receiver"), out);
  });
}

// What the peer says of a message, held against the rules.
absl::Status IncomingMessages::Describe(const HeaderFrame& frame,
                                        const std::string& bytes,
                                        Message& message) const {
  const TransferRules& rules = host_->rules;
  if (frame.plan_digest != rules.plan_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("the header is of plan \"", frame.plan_digest,
                     "\", this session's plan is \"", rules.plan_digest, "\""));
  }
  FERRY_ASSIGN_OR_RETURN(message.manifest,
                         DecodeManifest(frame.manifest, rules.limits));
  const Manifest& manifest = message.manifest;
  FERRY_RETURN_IF_ERROR(CheckPlacement(manifest, rules.incoming));
  if (frame.is_inline) {
    if (bytes.size() != manifest.BytesOnWire()) {
      return WrongByteCount("inline bytes", bytes.size(),
                            manifest.BytesOnWire());
    }
    for (int i = 0; i < manifest.buffer_count(); ++i) {
      if (manifest.buffer_nbytes(i) == 0 ||
          manifest.buffer_target(i).is_cpu()) {
        continue;
      }
      return absl::InvalidArgumentError(
          absl::StrCat("buffer ", i, " is inline and goes to ",
                       ToString(manifest.buffer_target(i))));
    }
    return absl::OkStatus();
  }
  FERRY_RETURN_IF_ERROR(CheckLent(manifest, frame.lent));
  message.lent = frame.lent;
  message.cut = BodiesOf(manifest, rules.piece_bytes, message.lent);
  if (!message.cut.bodies.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("a message without bytes is not inline");
}

void IncomingMessages::OnHeader(HeaderFrame frame, std::string inline_bytes) {
  auto message = std::make_shared<Message>();
  ReceiveMachine::Header header;
  // The peer's, and as large as the limits let it be.
  absl::Status room = CatchExceptions("reading a header", [&] {
    header.refusal = Describe(frame, inline_bytes, *message);
    for (const Body& body : message->cut.bodies) {
      header.body_nbytes.push_back(body.nbytes);
    }
  });
  if (!room.ok()) header.refusal = std::move(room);
  header.type = message->manifest.type();
  header.kind = frame.envelope.kind;
  header.call = frame.envelope.call;
  header.is_inline = frame.is_inline;
  header.may_be_eager = AllOnHost(message->manifest) && message->lent.empty();
  header.nbytes = message->manifest.BytesOnWire();
  header.manifest_nbytes = frame.manifest.size();
  message->is_inline = frame.is_inline;
  message->paths.Add(host_->lanes->UnreachableWires());
  message->envelope = std::move(frame.envelope);
  message->digests = std::move(frame.digests);
  if (frame.is_inline) {
    message->paths.Add({"inline", inline_bytes.size(), absl::OkStatus()});
    bytes_received_ += inline_bytes.size();
  }
  message->inline_bytes = std::move(inline_bytes);
  // A second header of an operation must not replace the first one's memory.
  messages_.emplace(frame.operation, std::move(message));
  Run([&](auto& out) {
    machine_.OnHeader(frame.operation, std::move(header), out);
  });
}

void IncomingMessages::OnTrailer(TrailerFrame frame) {
  auto found = messages_.find(frame.operation);
  if (found != messages_.end() && !found->second->is_inline) {
    found->second->digests = std::move(frame.digests);
  }
  Run([&](auto& out) {
    machine_.OnTrailer(frame.operation, frame.again, out);
  });
}

void IncomingMessages::OnCancel(const CancelFrame& frame) {
  Run([&](auto& out) {
    machine_.OnCancel(frame.operation, frame.status, out);
  });
}

void IncomingMessages::OnBody(int lane, uint32_t generation,
                              const BodyTag& tag) {
  Run([&](auto& out) {
    machine_.OnBody(lane, generation, tag.operation, tag.body, tag.attempt,
                    out);
  });
}

void IncomingMessages::OnLaneEnded(int lane) {
  Run([&](auto& out) { machine_.OnLaneEnded(lane, out); });
}

void IncomingMessages::OnTime(absl::Time now) {
  Run([&](auto& out) { machine_.OnTime(now, out); });
}

void IncomingMessages::End(const absl::Status& why) {
  Run([&](auto& out) { machine_.End(why, out); });
}

// Called once for a Receive: moves the tensors out, as there may be many. Those
// on devices stay in `receiving` too: their user has them back when their
// streams have come so far.
AllocateOptions IncomingMessages::TakeOptions(Receiving& receiving,
                                              const Message& message) const {
  AllocateOptions options;
  // An error has no tensors to put anywhere.
  if (message.envelope.reply_error.ok()) {
    options.into.names = std::move(receiving.options.into.names);
    options.into.tensors = receiving.filled.empty()
                               ? std::move(receiving.options.into.tensors)
                               : receiving.options.into.tensors;
  }
  options.limits = host_->rules.limits;
  options.streams =
      OrElse(receiving.options.streams, host_->rules.receive_streams);
  options.source = host_->buffers;
  options.converters = host_->converters;
  return options;
}

// Ordinary memory, however large, is a call of the system for each tensor; the
// pages of a pool's may have to be made first. Memory of a device may take long
// too, but not if the user has it already; and so may pinned memory.
LinkHost::Weight IncomingMessages::WeightOfAllocation(
    const Message& message, const Receiving& receiving) const {
  const Manifest& manifest = message.manifest;
  if (manifest.tensor_count() > kFewTensors) return LinkHost::Weight::kHeavy;
  const std::vector<at::Tensor>& given = receiving.options.into.tensors;
  const bool is_there =
      AllOnDevices(manifest)
          ? AllInPlace(manifest, given) && host_->rules.through_host.empty()
          : AllOnHost(manifest) &&
                (AllInPlace(manifest, given) || HasAtOnce(message));
  return is_there ? LinkHost::Weight::kLight : LinkHost::Weight::kHeavy;
}

// What a message takes of this side's memory.
uint64_t IncomingMessages::BytesOfOurs(const Message& message) {
  const Manifest& manifest = message.manifest;
  const uint64_t leased = message.leases ? BytesOf(manifest, message.lent) : 0;
  return manifest.BytesOnWire() - leased;
}

bool IncomingMessages::HasAtOnce(const Message& message) const {
  const uint64_t nbytes = BytesOfOurs(message);
  if (nbytes <= host_->quick_bytes) return true;
  return host_->pool != nullptr && !HasCheckedValues(message.manifest) &&
         host_->pool->HasFree(promised_ + RoomFor(nbytes));
}

// How many leading bodies: for want of memory their digests may have been lost.
uint32_t IncomingMessages::DigestedBodies(const Message& message,
                                          const ReceiveAction& action) {
  return message.arrived ? action.digested : 0;
}

// After so many leading bodies.
uint64_t IncomingMessages::BytesToDigest(const Message& message,
                                         uint32_t digested) {
  const BodyCut& cut = message.cut;
  const size_t end = message.leases ? cut.first_lent : cut.bodies.size();
  return BytesOf(cut, digested, static_cast<uint32_t>(end));
}

// What is heavy is to digest and to copy on the host.
LinkHost::Weight IncomingMessages::WeightOfDelivery(const Message& message,
                                                    uint32_t digested) const {
  const Manifest& manifest = message.described();
  if (manifest.tensor_count() > kFewTensors) return LinkHost::Weight::kHeavy;
  const bool digests =
      host_->rules.digests &&
      HasBytesToDigest(manifest, ScopeOf(manifest, message.digests));
  const bool few = message.is_inline ||
                   (AllOnHost(manifest) &&
                    BytesToDigest(message, digested) <= LinkHost::kFewBytes);
  bool light = few || !digests;
  if (!AllOnDevices(manifest)) {
    const bool in_place = message.staged.empty() &&
                          (!message.buffers || message.buffers->bounced() == 0);
    const bool quick = message.is_inline
                           ? manifest.BytesOnWire() <= host_->quick_bytes
                           : in_place;
    light = light && quick && AllOnHost(manifest);
  }
  return light ? LinkHost::Weight::kLight : LinkHost::Weight::kHeavy;
}

void IncomingMessages::AllocateMemory(const ReceiveAction& action) {
  std::shared_ptr<Message> message = messages_.at(action.operation);
  Receiving& receiving = *receivings_.at(action.receive);
  message->leases = MayLease(*message, receiving);
  const LinkHost::Weight weight = WeightOfAllocation(*message, receiving);
  const bool is_ours = receiving.options.into.tensors.empty();
  AllocateOptions wishes = TakeOptions(receiving, *message);
  if (message->leases) {
    message->leased = MemoryToLease(action.operation);
    wishes.apart = message->lent;
    wishes.source_apart = message->leased.get();
  }
  const std::shared_ptr<PooledMemory> pooled = PoolFor(*message);
  if (pooled != nullptr) wishes.source = pooled.get();
  // Others may come before it is taken, in the loop's next turn.
  const uint64_t promised = weight == LinkHost::Weight::kLight && is_ours
                                ? RoomFor(BytesOfOurs(*message))
                                : 0;
  promised_ += promised;
  host_->Work(weight, [this, id = action.operation, message, pooled, promised,
                       options = std::move(wishes)]() mutable {
    auto buffers = std::make_shared<absl::StatusOr<ReadBuffers>>();
    absl::Status made;
    const absl::Status room = CatchExceptions("allocating a message", [&] {
      *buffers = Allocate(message->manifest, std::move(options));
      if (buffers->ok()) made = MakeHostMemory(*message, **buffers);
    });
    made.Update(room);
    if (!made.ok()) *buffers = made;
    return LinkHost::Afterwards{
        [this, id, message, buffers, pooled, promised] {
          promised_ -= promised;
          if (pooled != nullptr && !pooled->refused().ok()) {
            message->paths.Add({"pool", 0, pooled->refused()});
          }
          absl::Status status = buffers->status();
          if (status.ok()) {
            message->buffers = *std::move(*buffers);
            message->manifest = Manifest();
          }
          Run([&](auto& out) { machine_.OnAllocated(id, status, out); });
        },
        nullptr};
  });
}

// Null: not the pool. The peer can write there: what was checked must not
// change.
std::shared_ptr<PooledMemory> IncomingMessages::PoolFor(
    const Message& message) const {
  if (host_->pool == nullptr || HasCheckedValues(message.manifest)) {
    return nullptr;
  }
  return std::make_shared<PooledMemory>(host_->pool);
}

// What a body crosses in, of what goes to a device through memory of the host.
absl::StatusOr<std::vector<c10::DataPtr>> IncomingMessages::HostMemoryFor(
    const Message& message, const ReadBuffers& buffers, uint32_t body) const {
  std::vector<c10::DataPtr> made;
  for (const Piece& piece : message.cut.PiecesOf(body)) {
    if (!IsCopied(message, piece.buffer)) continue;
    const Region& region = buffers.regions()[piece.buffer];
    FERRY_ASSIGN_OR_RETURN(
        c10::DataPtr memory,
        region.converter->HostMemory(piece.nbytes, region.device()));
    made.push_back(std::move(memory));
  }
  return made;
}

// That there is some for the first bodies, which then find it made, unless
// others have it then.
absl::Status IncomingMessages::MakeHostMemory(
    const Message& message, const ReadBuffers& buffers) const {
  if (host_->rules.through_host.empty()) return absl::OkStatus();
  std::vector<std::vector<c10::DataPtr>> made;
  const size_t lanes = host_->lanes->body_lanes();
  const size_t bodies = std::min(lanes, message.cut.bodies.size());
  for (size_t body = 0; body < bodies; ++body) {
    FERRY_ASSIGN_OR_RETURN(
        made.emplace_back(),
        HostMemoryFor(message, buffers, static_cast<uint32_t>(body)));
  }
  return absl::OkStatus();
}

// ---- leases

// Values that were checked must not change after that, as they may there.
bool IncomingMessages::MayLease(const Message& message,
                                const Receiving& receiving) const {
  return receiving.options.leases && !message.lent.empty() &&
         receiving.options.into.tensors.empty() &&
         !HasCheckedValues(message.manifest) &&
         message.lent.size() <= LeaseSpace::Left();
}

std::unique_ptr<LeasedMemory> IncomingMessages::MemoryToLease(OperationId id) {
  return std::make_unique<LeasedMemory>(
      host_->leases, [this, id, post = host_->PostWhileThere()] {
        post([this, id] { OnReturned(id); });
      });
}

void IncomingMessages::Grant(OperationId id) {
  const bool leases = messages_.at(id)->leases;
  if (leases) leased_.insert(id);
  host_->lanes->SendFrame(GrantFrame{id, leases});
}

// Nothing is left here of what was lent, or never was anything.
void IncomingMessages::OnReturned(OperationId id) {
  if (leased_.erase(id) == 0) return;  // it was not granted
  if (returned_.empty()) host_->Later([this] { TellOfReturned(); });
  returned_.push_back(id);
}

// Together, and none while the peer has many frames to read already: there may
// be as many as its memory has room for.
void IncomingMessages::TellOfReturned() {
  if (returned_.empty() || host_->lanes->ManyFramesUnread()) return;
  std::vector<uint64_t> all = std::exchange(returned_, {});
  for (size_t begin = 0; begin < all.size(); begin += ReturnedFrame::kMost) {
    const size_t end = std::min(all.size(), begin + ReturnedFrame::kMost);
    host_->lanes->SendFrame(
        ReturnedFrame{{all.begin() + begin, all.begin() + end}});
  }
}

// ---- bodies

// Whether a body is what the manifest says, before a byte of it is read.
absl::Status IncomingMessages::CheckBody(
    const tensorpipe::Descriptor& descriptor, const Message& message,
    uint32_t body) const {
  absl::Span<const Piece> pieces = message.cut.PiecesOf(body);
  if (!descriptor.payloads.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("body ", body, ": ", descriptor.payloads.size(),
                     " payloads, bodies have none"));
  }
  if (descriptor.tensors.size() != pieces.size()) {
    return absl::DataLossError(absl::StrCat("body ", body, ": ",
                                            descriptor.tensors.size(),
                                            " pieces, want ", pieces.size()));
  }
  const Manifest& manifest = message.described();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& tensor = descriptor.tensors[i];
    const DeviceId& source = manifest.buffer_source(pieces[i].buffer);
    const DeviceId& target = manifest.buffer_target(pieces[i].buffer);
    if (tensor.length != pieces[i].nbytes) {
      return WrongByteCount(absl::StrCat("body ", body, ", piece ", i),
                            tensor.length, pieces[i].nbytes);
    }
    const Crossing crossing = CrossingOf(host_->rules, target, source);
    if (!SameDevice(crossing.peer, tensor.sourceDevice) ||
        !tensor.targetDevice.has_value() ||
        !SameDevice(crossing.own, *tensor.targetDevice)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "body ", body, ", piece ", i, ": not from ", ToString(source), " to ",
          ToString(target), " as its manifest says"));
    }
  }
  return absl::OkStatus();
}

// The bounds of one that is dropped; ReadBody has looked at its length.
absl::Status IncomingMessages::CheckUnwanted(
    const tensorpipe::Descriptor& descriptor) {
  const bool have_targets = std::all_of(
      descriptor.tensors.begin(), descriptor.tensors.end(),
      [](const auto& tensor) { return tensor.targetDevice.has_value(); });
  if (descriptor.payloads.empty() && !descriptor.tensors.empty() &&
      descriptor.tensors.size() <= kMaxPiecesInBody && have_targets) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the peer broke the transfer protocol: a body of ",
      descriptor.tensors.size(), " pieces and ", descriptor.payloads.size(),
      " payloads passes the limits (", kMaxPiecesInBody,
      " pieces, no payloads, all with a target)"));
}

// Whether a buffer of the message goes to a device through memory of the host.
bool IncomingMessages::IsCopied(const Message& message, int buffer) const {
  const Manifest& manifest = message.described();
  return CrossingOf(host_->rules, manifest.buffer_target(buffer),
                    manifest.buffer_source(buffer))
      .copied;
}

bool IncomingMessages::HasCopied(const Message& message, uint32_t body) const {
  if (host_->rules.through_host.empty()) return false;
  const absl::Span<const Piece> pieces = message.cut.PiecesOf(body);
  return std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return IsCopied(message, piece.buffer);
  });
}

// Without pinned memory, what is copied to its device is read into other
// memory: the message fails once its lane is free of the body.
absl::StatusOr<tensorpipe::Allocation> IncomingMessages::PlaceInRegions(
    const Message& message, uint32_t body, Aside& aside) const {
  tensorpipe::Allocation allocation;
  if (!aside.host_status.ok()) {
    FERRY_RETURN_IF_ERROR(TakeBytes(message.cut.bodies[body].nbytes, aside));
  }
  auto memory = aside.host_memory.begin();
  uint64_t at = 0;  // in the other memory
  for (const Piece& piece : message.cut.PiecesOf(body)) {
    const Region& region = message.buffers->regions()[piece.buffer];
    if (IsCopied(message, piece.buffer)) {
      void* const to =
          aside.host_status.ok() ? memory++->get() : aside.bytes.get() + at;
      allocation.tensors.push_back({tensorpipe::CpuBuffer{to}});
      at += piece.nbytes;
      continue;
    }
    FERRY_RETURN_IF_ERROR(CheckStream(region));
    allocation.tensors.push_back({region.converter->CarriedBuffer(
        region.data + piece.offset, region.stream)});
  }
  return allocation;
}

// What was read aside to the devices that it is for.
absl::Status IncomingMessages::CopyFromHost(const Message& message,
                                            uint32_t body, Aside& aside) const {
  FERRY_RETURN_IF_ERROR(aside.host_status);
  if (aside.host_memory.empty()) return absl::OkStatus();
  auto memory = aside.host_memory.begin();
  for (const Piece& piece : message.cut.PiecesOf(body)) {
    if (!IsCopied(message, piece.buffer)) continue;
    const Region& region = message.buffers->regions()[piece.buffer];
    FERRY_RETURN_IF_ERROR(region.converter->CopyFromHost(
        std::move(*memory++), piece.nbytes, region.data + piece.offset,
        region.stream));
  }
  return absl::OkStatus();
}

absl::Status IncomingMessages::TakeBytes(uint64_t nbytes, Aside& aside) {
  aside.bytes.reset(new (std::nothrow) std::byte[nbytes]);
  if (aside.bytes != nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for a body of ", nbytes, " bytes"));
}

// All of it is for the host.
absl::StatusOr<tensorpipe::Allocation> IncomingMessages::PlaceAside(
    const tensorpipe::Descriptor& descriptor, Aside& aside) const {
  tensorpipe::Allocation allocation;
  FERRY_RETURN_IF_ERROR(TakeBytes(TotalOf(descriptor), aside));
  uint64_t at = 0;
  for (const auto& tensor : descriptor.tensors) {
    allocation.tensors.push_back(
        {tensorpipe::CpuBuffer{aside.bytes.get() + at}});
    at += tensor.length;
  }
  return allocation;
}

// Checks the body that waits on the action's lane, and finds its place.
absl::StatusOr<tensorpipe::Allocation> IncomingMessages::Place(
    const ReceiveAction& action, const tensorpipe::Descriptor& descriptor,
    Aside& aside) const {
  if (action.place == BodyPlace::kSink) {
    FERRY_RETURN_IF_ERROR(CheckUnwanted(descriptor));
    return PlaceAside(descriptor, aside);
  }
  const Message& message = *messages_.at(action.operation);
  FERRY_RETURN_IF_ERROR(CheckBody(descriptor, message, action.body));
  return action.place == BodyPlace::kRegion
             ? PlaceInRegions(message, action.body, aside)
             : PlaceAside(descriptor, aside);
}

// tensorpipe would throw, on a thread of its own, for a pair without a channel.
absl::Status IncomingMessages::CheckPath(
    int lane, const tensorpipe::Descriptor& descriptor) const {
  for (const auto& tensor : descriptor.tensors) {
    const tensorpipe::Device& target = *tensor.targetDevice;
    const std::string path = host_->lanes->PathTo(
        lane, DeviceId{target.type, target.index},
        DeviceId{tensor.sourceDevice.type, tensor.sourceDevice.index});
    if (!path.empty()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "no path of this session carries ", tensor.sourceDevice.toString(),
        " to ", target.toString()));
  }
  return absl::OkStatus();
}

void IncomingMessages::ReadBody(const ReceiveAction& action) {
  const tensorpipe::Descriptor& descriptor =
      host_->lanes->described(action.lane);
  if (action.place == BodyPlace::kSink &&
      (IsForADevice(descriptor) ||
       !FitsIn(host_->rules.piece_bytes, descriptor))) {
    // To read it takes a device's memory or, of what was lent, much: with its
    // lane it is over, too.
    host_->lanes->Reset(
        action.lane, action.generation,
        absl::CancelledError("ended instead of reading what is not wanted"));
    host_->Later([this, action] { OnBodyRead(action, {}, 0, {}, false); });
    return;
  }
  if (action.place == BodyPlace::kRegion &&
      HasCopied(*messages_.at(action.operation), action.body)) {
    return ReadThroughHost(action);
  }
  ReadInto(action, Aside());
}

// Pinned memory may have to be made. Until the body is read its message stays.
void IncomingMessages::ReadThroughHost(const ReceiveAction& action) {
  host_->Work(LinkHost::Weight::kHeavy,
              [this, action, message = messages_.at(action.operation),
               held = host_->lanes->HoldBody(action.lane)]() mutable {
                auto aside = std::make_shared<Aside>();
                auto made =
                    HostMemoryFor(*message, *message->buffers, action.body);
                aside->host_status = made.status();
                if (made.ok()) aside->host_memory = *std::move(made);
                return LinkHost::Afterwards{
                    [this, action, aside, held = std::move(held)] {
                      ReadInto(action, std::move(*aside));
                    },
                    nullptr};
              });
}

void IncomingMessages::ReadInto(const ReceiveAction& action, Aside aside) {
  const tensorpipe::Descriptor& descriptor =
      host_->lanes->described(action.lane);
  absl::StatusOr<tensorpipe::Allocation> allocation =
      Place(action, descriptor, aside);
  absl::Status status = allocation.status();
  if (status.ok()) status = CheckPath(action.lane, descriptor);
  if (!status.ok()) {
    // The body stays where it is; the link ends, and the lane with it.
    host_->EndSoon(
        LinkHost::About(absl::StrCat("operation ", action.operation), status));
    host_->Later([this, action] { OnBodyRead(action, {}, 0, {}, false); });
    return;
  }
  std::vector<const void*> expected;
  if (action.place == BodyPlace::kRegion) {
    expected = ExpectCopies(*messages_.at(action.operation), action.body);
  }
  host_->lanes->ReadBody(
      action.lane, *std::move(allocation),
      [this, action, nbytes = TotalOf(descriptor), aside = std::move(aside),
       expected = std::move(expected)](
          bool ok, const std::vector<PathUse>& uses) mutable {
        for (const void* data : expected) copy_digests_.Forget(data);
        OnBodyRead(action, uses, nbytes, std::move(aside), ok);
      });
}

void IncomingMessages::OnBodyRead(const ReceiveAction& action,
                                  const std::vector<PathUse>& uses,
                                  uint64_t nbytes, Aside aside, bool ok) {
  if (ok) bytes_received_ += nbytes;
  absl::Status failed;  // what came does not get to its device
  auto found = messages_.find(action.operation);
  if (found != messages_.end() && action.place != BodyPlace::kSink) {
    Message& message = *found->second;
    message.paths.Add(uses);
    message.staged.erase(action.body);
    if (ok && action.place == BodyPlace::kRegion) {
      failed = CopyFromHost(message, action.body, aside);
    }
    if (ok && action.place == BodyPlace::kStage) {
      message.staged[action.body] = std::move(aside.bytes);
    }
  }
  Run([&](auto& out) {
    machine_.OnBodyRead(action.lane, action.operation, action.body,
                        action.place, ok && failed.ok(), out);
  });
  if (failed.ok()) return;
  Run([&](auto& out) {
    machine_.Fail(action.operation, std::move(failed), out);
  });
}

// Bodies come again: what was digested of them is not what counts.
void IncomingMessages::ForgetDigests(Message& message) {
  if (message.arrived != nullptr) message.along = nullptr;
  message.arrived = nullptr;
}

void IncomingMessages::BeginDigest(
    Message& message, std::shared_ptr<ChunkedDigests> digests) const {
  const Manifest& manifest = message.described();
  if (digests == nullptr) {
    digests = std::make_shared<ChunkedDigests>(LengthsToDigest(manifest),
                                               host_->digest_helpers);
  }
  message.arrived = std::make_unique<ArrivalDigest>(
      manifest, message.buffers->regions(), std::move(digests));
}

// Where the pieces of a body go that its channel may come to copy there.
std::vector<const void*> IncomingMessages::ExpectCopies(Message& message,
                                                        uint32_t body) {
  std::vector<const void*> expected;
  const Manifest& manifest = message.described();
  if (!host_->rules.digests || message.leases || !AllOnHost(manifest)) {
    return expected;
  }
  for (const Piece& piece : message.cut.PiecesOf(body)) {
    if (!MayDigestAlong(manifest, piece.buffer)) continue;
    if (message.along == nullptr && copy_digests_.are_likely()) {
      // For want of memory all is digested later.
      CatchExceptions("digests along with copies", [&] {
        message.along =
            std::make_unique<DigestsAlong>(manifest, host_->digest_helpers);
      }).IgnoreError();
    }
    const std::byte* const data =
        message.buffers->regions()[piece.buffer].data + piece.offset;
    copy_digests_.ExpectPiece(piece, data, manifest, message.along.get());
    expected.push_back(data);
  }
  return expected;
}

// Meanwhile the bodies stay as they are, and the memory.
void IncomingMessages::DigestArrived(const ReceiveAction& action) {
  std::shared_ptr<Message> message = messages_.at(action.operation);
  if (action.digested == 0) ForgetDigests(*message);
  // Delivery finds in their place what is digested.
  StagedBodies staged;
  auto& all = message->staged;
  while (!all.empty() && all.begin()->first < action.body) {
    staged.insert(all.extract(all.begin()));
  }
  const uint64_t nbytes =
      BytesOf(message->cut, DigestedBodies(*message, action), action.body);
  const bool few = nbytes <= LinkHost::kFewBytes && staged.empty();
  const auto weight = few ? LinkHost::Weight::kLight : LinkHost::Weight::kHeavy;
  host_->Work(
      weight, [this, message, staged = std::move(staged),
               along = message->along ? message->along->digests : nullptr,
               id = action.operation, bodies = action.body] {
        Unstage(staged, *message);
        const absl::Status digested = CatchExceptions("digesting", [&] {
          if (message->arrived == nullptr) BeginDigest(*message, along);
          const Piece& last = message->cut.PiecesOf(bodies - 1).back();
          message->arrived->AdvanceTo(last.buffer, last.offset + last.nbytes);
        });
        // For want of memory: whoever comes next begins anew, with all that is
        // there.
        if (!digested.ok()) message->arrived = nullptr;
        return LinkHost::Afterwards{
            [this, message, id, ok = digested.ok()] {
              if (!ok) message->along = nullptr;
              Run([&](auto& out) { machine_.OnDigested(id, out); });
            },
            nullptr};
      });
}

// ---- the end

// Brings bytes that are not in their place there.
absl::Status IncomingMessages::Fill(Delivery& delivery) const {
  Message& message = *delivery.message;
  if (message.is_inline) {
    AllocateOptions options = TakeOptions(*delivery.receiving, message);
    FERRY_ASSIGN_OR_RETURN(
        message.buffers,
        Allocate(std::move(message.manifest), std::move(options)));
    const char* from = message.inline_bytes.data();
    for (const Region& region : message.buffers->regions()) {
      if (region.nbytes == 0) continue;
      std::memcpy(region.data, from, region.nbytes);
      from += region.nbytes;
    }
    return absl::OkStatus();
  }
  Unstage(message.staged, message);
  return absl::OkStatus();
}

void IncomingMessages::Unstage(const StagedBodies& staged,
                               const Message& message) {
  for (auto& [body, bytes] : staged) {
    const std::byte* from = bytes.get();
    for (const Piece& piece : message.cut.PiecesOf(body)) {
      const Region& region = message.buffers->regions()[piece.buffer];
      std::memcpy(region.data + piece.offset, from, piece.nbytes);
      from += piece.nbytes;
    }
  }
}

std::vector<uint64_t> IncomingMessages::DigestsOf(Delivery& delivery) const {
  Message& message = *delivery.message;
  if (message.along != nullptr && message.arrived == nullptr) {
    BeginDigest(message, message.along->digests);
  }
  if (message.arrived != nullptr) return message.arrived->Finish();
  const Manifest& manifest = message.described();
  const bool copied = !delivery.copies->regions.empty();
  return DigestOf(
      manifest, copied ? delivery.copies->regions : message.buffers->regions(),
      ScopeOf(manifest, message.digests), message.undigested(),
      host_->digest_helpers);
}

absl::StatusOr<Received> IncomingMessages::Verify(Delivery& delivery) const {
  Message& message = *delivery.message;
  Received received;
  Receipt& receipt = received.receipt;
  FERRY_RETURN_IF_ERROR(Fill(delivery));
  const Manifest& manifest = message.buffers->manifest();
  delivery.streams = OnePerStream(message.buffers->regions());
  FERRY_RETURN_IF_ERROR(delivery.copies.status());
  if (host_->rules.digests) {
    std::vector<uint64_t> digests = DigestsOf(delivery);
    FERRY_RETURN_IF_ERROR(CompareDigests(manifest, message.digests, digests));
    receipt.digest = DigestSummary(digests);
  }
  receipt.operation = delivery.id;
  receipt.bytes = manifest.BytesOnWire();
  receipt.bytes_through_host =
      BytesThroughHost(manifest, host_->rules, /*sent=*/false);
  receipt.tensors = manifest.tensor_count();
  receipt.bounced = message.buffers->bounced();
  receipt.paths = message.paths.uses();
  received.envelope = std::move(message.envelope);
  received.ready_on =
      OrElse(delivery.receiving->options.streams, host_->rules.receive_streams);
  FERRY_ASSIGN_OR_RETURN(received.message,
                         Deserialize(*std::move(message.buffers)));
  return received;
}

void IncomingMessages::Deliver(const ReceiveAction& action) {
  auto delivery = std::make_shared<Delivery>();
  delivery->id = action.operation;
  auto arrived = messages_.find(action.operation);
  delivery->message = std::move(arrived->second);
  messages_.erase(arrived);
  if (action.digested == 0) ForgetDigests(*delivery->message);
  delivery->digested = DigestedBodies(*delivery->message, action);
  auto found = receivings_.find(action.receive);
  delivery->receiving = std::move(found->second);
  receivings_.erase(found);
  delivery->copies = HostCopies();
  const Message& message = *delivery->message;
  const bool copy =
      host_->rules.digests && message.buffers &&
      !OnePerStream(message.buffers->regions()).empty() &&
      ScopeOf(message.described(), message.digests) == DigestScope::kDevicesToo;
  if (copy) return CopyToDigest(std::move(delivery));
  VerifyAndTell(std::move(delivery));
}

void IncomingMessages::CopyToDigest(std::shared_ptr<Delivery> delivery) {
  host_->Work(LinkHost::Weight::kHeavy, [this, delivery] {
    const std::vector<Region>& regions = delivery->message->buffers->regions();
    delivery->copies = CopyToHost(regions);
    return LinkHost::Afterwards{
        [this, delivery, &regions] {
          host_->WhenReached(regions,
                             [this, delivery](const absl::Status& reached) {
                               if (!reached.ok()) delivery->copies = reached;
                               VerifyAndTell(delivery);
                             });
        },
        nullptr};
  });
}

void IncomingMessages::VerifyAndTell(std::shared_ptr<Delivery> delivery) {
  const LinkHost::Weight weight =
      WeightOfDelivery(*delivery->message, delivery->digested);
  host_->Work(weight, [this, delivery]() -> LinkHost::Afterwards {
    delivery->received = CatchExceptions("verifying a message",
                                         [&] { return Verify(*delivery); });
    delivery->message.reset();
    if (delivery->streams.empty()) return Conclude(*delivery, absl::OkStatus());
    return {[this, delivery] {
              host_->WhenReached(
                  delivery->streams,
                  [this, delivery](const absl::Status& reached) {
                    LinkHost::Afterwards rest = Conclude(*delivery, reached);
                    std::move(rest.on_loop)();
                    host_->Tell(std::move(rest.for_user), rest.quick);
                  });
            },
            nullptr};
  });
}

LinkHost::Afterwards IncomingMessages::Conclude(Delivery& delivery,
                                                const absl::Status& reached) {
  const OperationId id = delivery.id;
  absl::StatusOr<Received> received = std::move(delivery.received);
  absl::Status status = received.status();
  status.Update(reached);
  if (status.ok()) {
    received->receipt.time = host_->clock->Now() - delivery.receiving->start;
  } else {
    received = LinkHost::About(
        absl::StrCat("operation ", id, " from ", host_->Whom()), status);
  }
  Done<Received> done = std::move(delivery.receiving->done);
  const bool quick = delivery.receiving->options.done_is_quick;
  delivery.receiving.reset();
  return {[this, id, status] {
            if (status.ok()) ++messages_received_;
            Run([&](auto& out) { machine_.OnDelivered(id, status, out); });
          },
          [done = std::move(done), received = std::move(received)]() mutable {
            std::move(done)(std::move(received));
          },
          quick};
}

void IncomingMessages::FinishReceive(ReceiveId id, const absl::Status& status) {
  auto found = receivings_.find(id);
  std::unique_ptr<Receiving> receiving = std::move(found->second);
  receivings_.erase(found);
  absl::Status result =
      LinkHost::About(absl::StrCat("receive from ", host_->Whom()), status);
  const std::vector<Region> filled = std::move(receiving->filled);
  auto tell = [this, receiving = std::move(receiving),
               result = std::move(result)](const absl::Status&) mutable {
    host_->Tell([receiving = std::move(receiving),
                 result = std::move(result)]() mutable {
      Done<Received> done = std::move(receiving->done);
      receiving.reset();
      std::move(done)(std::move(result));
    });
  };
  host_->WhenReached(filled, std::move(tell));
}

}  // namespace tensorferry
