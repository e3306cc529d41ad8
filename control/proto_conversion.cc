#include "control/proto_conversion.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/carried_as.h"
#include "base/device_id.h"
#include "base/limits.h"
#include "base/peer_id.h"
#include "base/placement.h"
#include "base/status_macros.h"
#include "control/lease.h"
#include "control/text.h"

namespace tensorferry::control_proto {
namespace {

constexpr int kMaxWireVersion = 1 << 16;
constexpr int kMaxStreams = 1 << 10;
constexpr int kMaxDataAddresses = 16;
constexpr absl::Duration kUsualLease = absl::Seconds(15);

// Where a field is, spelt out only if something is wrong with it.
struct Field {
  const Field* parent = nullptr;
  absl::string_view name;
  int index = -1;

  Field Sub(absl::string_view sub, int at = -1) const {
    return {this, sub, at};
  }
  std::string ToString() const {
    std::string self(name);
    if (index >= 0) absl::StrAppend(&self, "[", index, "]");
    return parent == nullptr ? self
                             : absl::StrCat(parent->ToString(), ".", self);
  }
  template <class... Args>
  absl::Status Wrong(const Args&... why) const {
    return absl::InvalidArgumentError(absl::StrCat(ToString(), ": ", why...));
  }
};

absl::Status CheckText(const std::string& text, const Field& field,
                       size_t least, size_t most) {
  if (text.size() < least) return field.Wrong("is empty");
  if (text.size() > most) {
    return field.Wrong(text.size(), " bytes, at most ", most);
  }
  absl::Status valid = ValidateText(text);
  return valid.ok() ? valid : field.Wrong(valid.message());
}

absl::Status CheckCount(int got, const Field& field, int most) {
  if (got <= most) return absl::OkStatus();
  return field.Wrong(got, " entries, at most ", most);
}

absl::Status CheckRange(int64_t got, const Field& field, int64_t lowest,
                        int64_t highest) {
  if (got >= lowest && got <= highest) return absl::OkStatus();
  return field.Wrong(got, ", want ", lowest, "..", highest);
}

absl::StatusOr<DeviceId> Device(const std::string& text, const Field& field) {
  auto device = ParseDeviceId(text);
  if (!device.ok()) return field.Wrong(device.status().message());
  return device;
}

// PeerId.

void Fill(const PeerId& peer, pb::PeerId* message) {
  message->set_name(peer.name);
  message->set_epoch(peer.epoch);
}

absl::StatusOr<PeerId> Peer(const pb::PeerId& message, const Field& field) {
  FERRY_RETURN_IF_ERROR(
      CheckText(message.name(), field.Sub("name"), 1, kMaxNameBytes));
  return PeerId{message.name(), message.epoch()};
}

// Limits. Each of the two functions names every field once.

void Fill(const Limits& limits, pb::Limits* message) {
  message->set_message_bytes(limits.message_bytes);
  message->set_payload_bytes(limits.payload_bytes);
  message->set_manifest_bytes(limits.manifest_bytes);
  message->set_tensors(limits.tensors);
  message->set_rank(limits.rank);
  message->set_name_bytes(limits.name_bytes);
  message->set_operations_in_flight(limits.operations_in_flight);
  message->set_bytes_in_flight(limits.bytes_in_flight);
  message->set_operations_queued(limits.operations_queued);
  message->set_bytes_queued(limits.bytes_queued);
  message->set_headers_waiting(limits.headers_waiting);
  message->set_eager_bytes(limits.eager_bytes);
  message->set_body_lanes(limits.body_lanes);
}

Limits LimitsOf(const pb::Limits& message) {
  Limits limits;
#define FERRY_TAKE(field) \
  if (message.has_##field()) limits.field = message.field()
  FERRY_TAKE(message_bytes);
  FERRY_TAKE(payload_bytes);
  FERRY_TAKE(manifest_bytes);
  FERRY_TAKE(tensors);
  FERRY_TAKE(rank);
  FERRY_TAKE(name_bytes);
  FERRY_TAKE(operations_in_flight);
  FERRY_TAKE(bytes_in_flight);
  FERRY_TAKE(operations_queued);
  FERRY_TAKE(bytes_queued);
  FERRY_TAKE(headers_waiting);
  FERRY_TAKE(eager_bytes);
  FERRY_TAKE(body_lanes);
#undef FERRY_TAKE
  return limits;
}

// Placement.

void Fill(const Placement& placement, pb::Placement* message) {
  for (const PlacementRule& rule : placement.rules) {
    pb::PlacementRule* out = message->add_rules();
    if (rule.kind == PlacementRule::Kind::kDevice) {
      out->set_source(ToString(rule.source));
    } else {
      out->set_name_glob(rule.name_glob);
    }
    out->set_target(ToString(rule.target));
  }
}

absl::StatusOr<PlacementRule> Rule(const pb::PlacementRule& message,
                                   const Field& field) {
  PlacementRule rule;
  switch (message.applies_to_case()) {
    case pb::PlacementRule::kSource: {
      FERRY_ASSIGN_OR_RETURN(rule.source,
                             Device(message.source(), field.Sub("source")));
      break;
    }
    case pb::PlacementRule::kNameGlob: {
      FERRY_RETURN_IF_ERROR(CheckText(
          message.name_glob(), field.Sub("name_glob"), 1, kMaxGlobBytes));
      rule.kind = PlacementRule::Kind::kName;
      rule.name_glob = message.name_glob();
      break;
    }
    case pb::PlacementRule::APPLIES_TO_NOT_SET:
      return field.Wrong("has neither source nor name_glob");
  }
  FERRY_ASSIGN_OR_RETURN(rule.target,
                         Device(message.target(), field.Sub("target")));
  return rule;
}

absl::StatusOr<Placement> PlacementOf(const pb::Placement& message,
                                      const Field& field) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.rules_size(), field.Sub("rules"), kMaxRules));
  Placement placement;
  size_t glob_bytes = 0;
  for (int i = 0; i < message.rules_size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(PlacementRule rule,
                           Rule(message.rules(i), field.Sub("rules", i)));
    glob_bytes += rule.name_glob.size();
    placement.rules.push_back(std::move(rule));
  }
  if (glob_bytes > kMaxAllGlobBytes) {
    return field.Sub("rules").Wrong(glob_bytes, " bytes of name_glob, at most ",
                                    kMaxAllGlobBytes);
  }
  return placement;
}

// Streams.

pb::StreamKind ToProto(StreamKind kind) {
  switch (kind) {
    case StreamKind::kDefault:
      return pb::STREAM_KIND_DEFAULT;
    case StreamKind::kPool:
      return pb::STREAM_KIND_POOL;
    case StreamKind::kHighPriority:
      return pb::STREAM_KIND_HIGH_PRIORITY;
  }
  return pb::STREAM_KIND_UNSPECIFIED;
}

absl::StatusOr<StreamKind> Kind(pb::StreamKind kind, const Field& field) {
  switch (kind) {
    case pb::STREAM_KIND_DEFAULT:
      return StreamKind::kDefault;
    case pb::STREAM_KIND_POOL:
      return StreamKind::kPool;
    case pb::STREAM_KIND_HIGH_PRIORITY:
      return StreamKind::kHighPriority;
    default:
      return field.Wrong(static_cast<int>(kind), " is not a stream kind");
  }
}

using StreamSpecs = google::protobuf::RepeatedPtrField<pb::StreamSpec>;

void Fill(const std::vector<StreamSpec>& streams, StreamSpecs* message) {
  for (const StreamSpec& stream : streams) {
    pb::StreamSpec* out = message->Add();
    out->set_device(ToString(stream.device));
    out->set_kind(ToProto(stream.kind));
  }
}

absl::StatusOr<std::vector<StreamSpec>> Streams(const StreamSpecs& message,
                                                const Field& parent,
                                                absl::string_view name) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.size(), parent.Sub(name), kMaxDevices));
  std::vector<StreamSpec> streams;
  for (int i = 0; i < message.size(); ++i) {
    Field field = parent.Sub(name, i);
    StreamSpec stream;
    FERRY_ASSIGN_OR_RETURN(stream.device,
                           Device(message[i].device(), field.Sub("device")));
    FERRY_ASSIGN_OR_RETURN(stream.kind,
                           Kind(message[i].kind(), field.Sub("kind")));
    streams.push_back(std::move(stream));
  }
  return streams;
}

// Names of paths.

using Strings = google::protobuf::RepeatedPtrField<std::string>;

absl::StatusOr<std::vector<std::string>> PathNames(const Strings& message,
                                                   const Field& parent,
                                                   absl::string_view name) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.size(), parent.Sub(name), 2 * kMaxPaths));
  for (int i = 0; i < message.size(); ++i) {
    FERRY_RETURN_IF_ERROR(
        CheckText(message[i], parent.Sub(name, i), 1, kMaxNameBytes));
  }
  return std::vector<std::string>(message.begin(), message.end());
}

// Capabilities.

pb::Reach ToProto(PathCapability::Reach reach) {
  switch (reach) {
    case PathCapability::Reach::kAnywhere:
      return pb::REACH_ANYWHERE;
    case PathCapability::Reach::kSameHost:
      return pb::REACH_SAME_HOST;
    case PathCapability::Reach::kSameHostAndUser:
      return pb::REACH_SAME_HOST_AND_USER;
    case PathCapability::Reach::kSameProcess:
      return pb::REACH_SAME_PROCESS;
  }
  return pb::REACH_UNSPECIFIED;
}

absl::StatusOr<PathCapability::Reach> ReachOf(pb::Reach reach,
                                              const Field& field) {
  switch (reach) {
    case pb::REACH_ANYWHERE:
      return PathCapability::Reach::kAnywhere;
    case pb::REACH_SAME_HOST:
      return PathCapability::Reach::kSameHost;
    case pb::REACH_SAME_HOST_AND_USER:
      return PathCapability::Reach::kSameHostAndUser;
    case pb::REACH_SAME_PROCESS:
      return PathCapability::Reach::kSameProcess;
    default:
      return field.Wrong(static_cast<int>(reach), " is not a reach");
  }
}

void Fill(const PathCapability& path, pb::PathCapability* message) {
  message->set_name(path.name);
  message->set_from_type(path.from_type);
  message->set_to_type(path.to_type);
  message->set_priority(path.priority);
  message->set_reach(ToProto(path.reach));
  message->set_unusable(Cut(CleanLine(path.unusable), kMaxReasonBytes));
  message->set_opens_device(path.opens_device);
  message->set_only_if_named(path.only_if_named);
}

absl::Status CheckDeviceType(const std::string& type, const Field& field) {
  absl::Status status = ValidateDeviceId({type, 0});
  return status.ok() ? status : field.Wrong(status.message());
}

absl::StatusOr<PathCapability> Path(const pb::PathCapability& message,
                                    const Field& field) {
  PathCapability path;
  FERRY_RETURN_IF_ERROR(
      CheckText(message.name(), field.Sub("name"), 1, kMaxNameBytes));
  FERRY_RETURN_IF_ERROR(
      CheckDeviceType(message.from_type(), field.Sub("from_type")));
  FERRY_RETURN_IF_ERROR(
      CheckDeviceType(message.to_type(), field.Sub("to_type")));
  FERRY_ASSIGN_OR_RETURN(path.reach,
                         ReachOf(message.reach(), field.Sub("reach")));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.unusable(), field.Sub("unusable"), 0, kMaxReasonBytes));
  path.name = message.name();
  path.from_type = message.from_type();
  path.to_type = message.to_type();
  path.priority = message.priority();
  path.unusable = message.unusable();
  path.opens_device = message.opens_device();
  path.only_if_named = message.only_if_named();
  return path;
}

// Rising indices, so that there are not more than there can be devices.
absl::Status TakePeers(const pb::DeviceInfo& message, const Field& field,
                       DeviceInfo* device) {
  for (int i = 0; i < message.peers_size(); ++i) {
    const int index = message.peers(i);
    const Field at = field.Sub("peers", i);
    absl::Status valid = ValidateDeviceId({device->id.type, index});
    if (!valid.ok()) return at.Wrong(valid.message());
    if (i > 0 && index <= message.peers(i - 1)) {
      return at.Wrong(index, " after ", message.peers(i - 1),
                      ", want rising indices");
    }
    device->peers.push_back(index);
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceInfo> DeviceInfoOf(const pb::DeviceInfo& message,
                                        const Field& field) {
  DeviceInfo device;
  FERRY_ASSIGN_OR_RETURN(device.id, Device(message.id(), field.Sub("id")));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.name(), field.Sub("name"), 0, kMaxNameBytes));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.uuid(), field.Sub("uuid"), 0, kMaxNameBytes));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.driver(), field.Sub("driver"), 0, kMaxNameBytes));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.runtime(), field.Sub("runtime"), 0, kMaxNameBytes));
  FERRY_RETURN_IF_ERROR(CheckText(message.not_through_host(),
                                  field.Sub("not_through_host"), 0,
                                  kMaxReasonBytes));
  FERRY_RETURN_IF_ERROR(TakePeers(message, field, &device));
  if (!message.carried_as().empty()) {
    FERRY_ASSIGN_OR_RETURN(device.carried_as, Device(message.carried_as(),
                                                     field.Sub("carried_as")));
  }
  device.name = message.name();
  device.uuid = message.uuid();
  device.total_bytes = message.total_bytes();
  device.free_bytes = message.free_bytes();
  device.driver = message.driver();
  device.runtime = message.runtime();
  device.not_through_host = message.not_through_host();
  return device;
}

absl::StatusOr<VersionRange> Versions(const pb::VersionRange& message,
                                      const Field& field) {
  FERRY_RETURN_IF_ERROR(
      CheckRange(message.lowest(), field.Sub("lowest"), 1, kMaxWireVersion));
  FERRY_RETURN_IF_ERROR(CheckRange(message.highest(), field.Sub("highest"),
                                   message.lowest(), kMaxWireVersion));
  return VersionRange{message.lowest(), message.highest()};
}

absl::Status TakeDevices(const pb::Capabilities& message, const Field& field,
                         Capabilities* capabilities) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.devices_size(), field.Sub("devices"), kMaxDevices));
  for (int i = 0; i < message.devices_size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(
        DeviceInfo device,
        DeviceInfoOf(message.devices(i), field.Sub("devices", i)));
    capabilities->devices.push_back(std::move(device));
  }
  return absl::OkStatus();
}

absl::Status TakePaths(const pb::Capabilities& message, const Field& field,
                       Capabilities* capabilities) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.paths_size(), field.Sub("paths"), kMaxPaths));
  for (int i = 0; i < message.paths_size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(PathCapability path,
                           Path(message.paths(i), field.Sub("paths", i)));
    capabilities->paths.push_back(std::move(path));
  }
  return absl::OkStatus();
}

// Plans.

void Fill(const PathChoice& choice, pb::PathChoice* message) {
  message->set_caller_device(ToString(choice.caller_device));
  message->set_callee_device(ToString(choice.callee_device));
  for (const std::string& path : choice.ranked) message->add_ranked(path);
  message->set_through_host(choice.through_host);
  for (const PathRefusal& refusal : choice.refused) {
    pb::PathRefusal* out = message->add_refused();
    out->set_path(refusal.path);
    out->set_reason(Cut(CleanLine(refusal.reason), kMaxReasonBytes));
  }
}

absl::StatusOr<PathChoice> Choice(const pb::PathChoice& message,
                                  const Field& field) {
  PathChoice choice;
  FERRY_ASSIGN_OR_RETURN(
      choice.caller_device,
      Device(message.caller_device(), field.Sub("caller_device")));
  FERRY_ASSIGN_OR_RETURN(
      choice.callee_device,
      Device(message.callee_device(), field.Sub("callee_device")));
  FERRY_ASSIGN_OR_RETURN(choice.ranked,
                         PathNames(message.ranked(), field, "ranked"));
  choice.through_host = message.through_host();
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.refused_size(), field.Sub("refused"), 2 * kMaxPaths));
  for (int i = 0; i < message.refused_size(); ++i) {
    const pb::PathRefusal& refusal = message.refused(i);
    Field at = field.Sub("refused", i);
    FERRY_RETURN_IF_ERROR(
        CheckText(refusal.path(), at.Sub("path"), 1, kMaxNameBytes));
    FERRY_RETURN_IF_ERROR(
        CheckText(refusal.reason(), at.Sub("reason"), 0, kMaxReasonBytes));
    choice.refused.push_back({refusal.path(), refusal.reason()});
  }
  return choice;
}

absl::Status TakeChoices(const pb::SessionPlan& message, const Field& field,
                         SessionPlan* plan) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.paths_size(), field.Sub("paths"), kMaxPathChoices));
  for (int i = 0; i < message.paths_size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(PathChoice choice,
                           Choice(message.paths(i), field.Sub("paths", i)));
    plan->paths.push_back(std::move(choice));
  }
  return absl::OkStatus();
}

using CarriedDeviceList = google::protobuf::RepeatedPtrField<pb::CarriedDevice>;

void Fill(const CarriedDevices& carried, CarriedDeviceList* message) {
  for (const auto& [device, as] : carried) {
    pb::CarriedDevice* out = message->Add();
    out->set_device(ToString(device));
    out->set_carried_as(ToString(as));
  }
}

absl::StatusOr<CarriedDevices> Carried(const CarriedDeviceList& message,
                                       const Field& parent,
                                       absl::string_view name) {
  FERRY_RETURN_IF_ERROR(
      CheckCount(message.size(), parent.Sub(name), kMaxDevices));
  CarriedDevices carried;
  for (int i = 0; i < message.size(); ++i) {
    const Field field = parent.Sub(name, i);
    FERRY_ASSIGN_OR_RETURN(DeviceId device,
                           Device(message[i].device(), field.Sub("device")));
    FERRY_ASSIGN_OR_RETURN(
        DeviceId as, Device(message[i].carried_as(), field.Sub("carried_as")));
    if (!carried.emplace(std::move(device), std::move(as)).second) {
      return field.Sub("device").Wrong(message[i].device(), " is there twice");
    }
  }
  return carried;
}

absl::StatusOr<SessionPlan> Plan(const pb::SessionPlan& message,
                                 const Field& field) {
  SessionPlan plan;
  FERRY_ASSIGN_OR_RETURN(plan.caller,
                         Peer(message.caller(), field.Sub("caller")));
  FERRY_ASSIGN_OR_RETURN(plan.callee,
                         Peer(message.callee(), field.Sub("callee")));
  FERRY_RETURN_IF_ERROR(CheckRange(
      message.wire_version(), field.Sub("wire_version"), 0, kMaxWireVersion));
  plan.wire_version = message.wire_version();
  FERRY_ASSIGN_OR_RETURN(
      plan.to_callee, PlacementOf(message.to_callee(), field.Sub("to_callee")));
  FERRY_ASSIGN_OR_RETURN(
      plan.to_caller, PlacementOf(message.to_caller(), field.Sub("to_caller")));
  FERRY_ASSIGN_OR_RETURN(plan.caller_streams, Streams(message.caller_streams(),
                                                      field, "caller_streams"));
  FERRY_ASSIGN_OR_RETURN(plan.callee_streams, Streams(message.callee_streams(),
                                                      field, "callee_streams"));
  FERRY_RETURN_IF_ERROR(TakeChoices(message, field, &plan));
  FERRY_ASSIGN_OR_RETURN(plan.caller_carried, Carried(message.caller_carried(),
                                                      field, "caller_carried"));
  FERRY_ASSIGN_OR_RETURN(plan.callee_carried, Carried(message.callee_carried(),
                                                      field, "callee_carried"));
  plan.digests = message.digests();
  plan.limits = LimitsOf(message.limits());
  return plan;
}

// Statuses.

absl::Status StatusOf(const pb::Status& message, const Field& field,
                      absl::Status* status) {
  FERRY_RETURN_IF_ERROR(CheckRange(message.code(), field.Sub("code"), 0, 16));
  if (message.message().size() > kMaxStatusBytes) {
    return field.Sub("message").Wrong(message.message().size(),
                                      " bytes, at most ", kMaxStatusBytes);
  }
  *status = absl::Status(static_cast<absl::StatusCode>(message.code()),
                         CleanLines(message.message()));
  return absl::OkStatus();
}

// Sessions.

pb::SessionState ToProto(SessionState state) {
  switch (state) {
    case SessionState::kOpening:
      return pb::SESSION_STATE_OPENING;
    case SessionState::kOpen:
      return pb::SESSION_STATE_OPEN;
    case SessionState::kDraining:
      return pb::SESSION_STATE_DRAINING;
  }
  return pb::SESSION_STATE_UNSPECIFIED;
}

absl::StatusOr<SessionState> State(pb::SessionState state, const Field& field) {
  switch (state) {
    case pb::SESSION_STATE_OPENING:
      return SessionState::kOpening;
    case pb::SESSION_STATE_OPEN:
      return SessionState::kOpen;
    case pb::SESSION_STATE_DRAINING:
      return SessionState::kDraining;
    default:
      return field.Wrong(static_cast<int>(state), " is not a session state");
  }
}

absl::StatusOr<SessionRecord> Record(const pb::SessionRecord& message,
                                     const Field& field) {
  SessionRecord record;
  FERRY_RETURN_IF_ERROR(CheckText(message.session_id(), field.Sub("session_id"),
                                  1, kMaxNameBytes));
  record.id = message.session_id();
  FERRY_ASSIGN_OR_RETURN(record.plan, Plan(message.plan(), field.Sub("plan")));
  FERRY_ASSIGN_OR_RETURN(record.state,
                         State(message.state(), field.Sub("state")));
  record.opened_at = absl::FromUnixMillis(message.opened_at_unix_ms());
  record.lease_until = absl::FromUnixMillis(message.lease_until_unix_ms());
  record.bytes_sent = message.bytes_sent();
  record.bytes_received = message.bytes_received();
  FERRY_RETURN_IF_ERROR(
      CheckText(message.identity(), field.Sub("identity"), 0, kMaxReasonBytes));
  record.identity = message.identity();
  return record;
}

}  // namespace

pb::Status ToProto(const absl::Status& status) {
  pb::Status message;
  // A status that is not absl's own counts as UNKNOWN.
  message.set_code(static_cast<int>(status.code()));
  message.set_message(Cut(CleanLines(status.message()), kMaxStatusBytes));
  return message;
}

absl::Status FromProto(const pb::Status& message, absl::string_view field,
                       absl::Status* status) {
  return StatusOf(message, Field{nullptr, field}, status);
}

pb::Capabilities ToProto(const Capabilities& capabilities) {
  pb::Capabilities message;
  Fill(capabilities.peer, message.mutable_peer());
  message.mutable_wire_versions()->set_lowest(
      capabilities.wire_versions.lowest);
  message.mutable_wire_versions()->set_highest(
      capabilities.wire_versions.highest);
  for (const DeviceInfo& device : capabilities.devices) {
    pb::DeviceInfo* out = message.add_devices();
    out->set_id(ToString(device.id));
    out->set_name(device.name);
    out->set_uuid(device.uuid);
    out->set_total_bytes(device.total_bytes);
    out->set_free_bytes(device.free_bytes);
    for (int peer : device.peers) out->add_peers(peer);
    out->set_driver(device.driver);
    out->set_runtime(device.runtime);
    if (device.carried_as) out->set_carried_as(ToString(*device.carried_as));
    out->set_not_through_host(
        Cut(CleanLine(device.not_through_host), kMaxReasonBytes));
  }
  for (const PathCapability& path : capabilities.paths) {
    Fill(path, message.add_paths());
  }
  message.set_host_id(capabilities.host_id);
  message.set_user_id(capabilities.user_id);
  message.set_process_id(capabilities.process_id);
  message.set_streams_per_device(capabilities.streams_per_device);
  Fill(capabilities.limits, message.mutable_limits());
  return message;
}

absl::StatusOr<Capabilities> FromProto(const pb::Capabilities& message,
                                       absl::string_view name) {
  Field field{nullptr, name};
  Capabilities capabilities;
  FERRY_ASSIGN_OR_RETURN(capabilities.peer,
                         Peer(message.peer(), field.Sub("peer")));
  FERRY_ASSIGN_OR_RETURN(
      capabilities.wire_versions,
      Versions(message.wire_versions(), field.Sub("wire_versions")));
  FERRY_RETURN_IF_ERROR(TakeDevices(message, field, &capabilities));
  FERRY_RETURN_IF_ERROR(TakePaths(message, field, &capabilities));
  FERRY_RETURN_IF_ERROR(
      CheckText(message.host_id(), field.Sub("host_id"), 0, kMaxNameBytes));
  capabilities.host_id = message.host_id();
  capabilities.user_id = message.user_id();
  capabilities.process_id = message.process_id();
  FERRY_RETURN_IF_ERROR(CheckRange(message.streams_per_device(),
                                   field.Sub("streams_per_device"), 0,
                                   kMaxStreams));
  capabilities.streams_per_device = message.streams_per_device();
  capabilities.limits = LimitsOf(message.limits());
  return capabilities;
}

pb::Offer ToProto(const Offer& offer) {
  pb::Offer message;
  Fill(offer.to_callee, message.mutable_to_callee());
  if (offer.to_caller) Fill(*offer.to_caller, message.mutable_to_caller());
  Fill(offer.caller_streams, message.mutable_caller_streams());
  Fill(offer.callee_streams, message.mutable_callee_streams());
  for (const std::string& path : offer.paths) message.add_paths(path);
  message.set_digests(offer.digests);
  if (offer.limits) Fill(*offer.limits, message.mutable_limits());
  message.set_expected_callee(offer.expected_callee);
  if (offer.expected_epoch) message.set_expected_epoch(*offer.expected_epoch);
  return message;
}

absl::StatusOr<Offer> FromProto(const pb::Offer& message,
                                absl::string_view name) {
  Field field{nullptr, name};
  Offer offer;
  FERRY_ASSIGN_OR_RETURN(offer.to_callee, PlacementOf(message.to_callee(),
                                                      field.Sub("to_callee")));
  if (message.has_to_caller()) {
    FERRY_ASSIGN_OR_RETURN(
        offer.to_caller,
        PlacementOf(message.to_caller(), field.Sub("to_caller")));
  }
  FERRY_ASSIGN_OR_RETURN(
      offer.caller_streams,
      Streams(message.caller_streams(), field, "caller_streams"));
  FERRY_ASSIGN_OR_RETURN(
      offer.callee_streams,
      Streams(message.callee_streams(), field, "callee_streams"));
  FERRY_ASSIGN_OR_RETURN(offer.paths,
                         PathNames(message.paths(), field, "paths"));
  if (message.has_digests()) offer.digests = message.digests();
  if (message.has_limits()) offer.limits = LimitsOf(message.limits());
  FERRY_RETURN_IF_ERROR(CheckText(message.expected_callee(),
                                  field.Sub("expected_callee"), 0,
                                  kMaxNameBytes));
  offer.expected_callee = message.expected_callee();
  if (message.has_expected_epoch()) {
    offer.expected_epoch = message.expected_epoch();
  }
  return offer;
}

pb::SessionPlan ToProto(const SessionPlan& plan) {
  pb::SessionPlan message;
  Fill(plan.caller, message.mutable_caller());
  Fill(plan.callee, message.mutable_callee());
  message.set_wire_version(plan.wire_version);
  Fill(plan.to_callee, message.mutable_to_callee());
  Fill(plan.to_caller, message.mutable_to_caller());
  Fill(plan.caller_streams, message.mutable_caller_streams());
  Fill(plan.callee_streams, message.mutable_callee_streams());
  for (const PathChoice& choice : plan.paths) {
    Fill(choice, message.add_paths());
  }
  Fill(plan.caller_carried, message.mutable_caller_carried());
  Fill(plan.callee_carried, message.mutable_callee_carried());
  message.set_digests(plan.digests);
  Fill(plan.limits, message.mutable_limits());
  return message;
}

absl::StatusOr<SessionPlan> FromProto(const pb::SessionPlan& message,
                                      absl::string_view name) {
  return Plan(message, Field{nullptr, name});
}

pb::LaneTicket ToProto(const LaneTicket& ticket) {
  pb::LaneTicket message;
  message.set_session_id(ticket.session_id);
  for (const std::string& address : ticket.data_addresses) {
    message.add_data_addresses(address);
  }
  message.set_session_key(ticket.session_key);
  return message;
}

absl::StatusOr<LaneTicket> FromProto(const pb::LaneTicket& message,
                                     absl::string_view name) {
  Field field{nullptr, name};
  FERRY_RETURN_IF_ERROR(CheckText(message.session_id(), field.Sub("session_id"),
                                  1, kMaxNameBytes));
  if (message.data_addresses().empty()) {
    return field.Sub("data_addresses").Wrong("is empty");
  }
  FERRY_RETURN_IF_ERROR(CheckCount(message.data_addresses_size(),
                                   field.Sub("data_addresses"),
                                   kMaxDataAddresses));
  for (int i = 0; i < message.data_addresses_size(); ++i) {
    FERRY_RETURN_IF_ERROR(CheckText(message.data_addresses(i),
                                    field.Sub("data_addresses", i), 1,
                                    kMaxNameBytes));
  }
  if (message.session_key().size() != kSessionKeyBytes) {
    return field.Sub("session_key")
        .Wrong(message.session_key().size(), " bytes, want ", kSessionKeyBytes);
  }
  return LaneTicket{
      message.session_id(),
      {message.data_addresses().begin(), message.data_addresses().end()},
      message.session_key()};
}

pb::ExplainResponse ToProto(const Explanation& explanation) {
  pb::ExplainResponse message;
  *message.mutable_plan() = ToProto(explanation.plan);
  for (const absl::Status& objection : explanation.objections) {
    if (message.objections_size() == kMaxObjections) break;
    *message.add_objections() = ToProto(objection);
  }
  return message;
}

absl::StatusOr<Explanation> FromProto(const pb::ExplainResponse& message) {
  Explanation explanation;
  FERRY_ASSIGN_OR_RETURN(explanation.plan,
                         Plan(message.plan(), Field{nullptr, "plan"}));
  FERRY_RETURN_IF_ERROR(CheckCount(
      message.objections_size(), Field{nullptr, "objections"}, kMaxObjections));
  for (int i = 0; i < message.objections_size(); ++i) {
    Field field{nullptr, "objections", i};
    absl::Status objection;
    FERRY_RETURN_IF_ERROR(StatusOf(message.objections(i), field, &objection));
    if (objection.ok()) return field.Wrong("is OK, so no objection");
    explanation.objections.push_back(std::move(objection));
  }
  return explanation;
}

pb::SessionRecord ToProto(const SessionRecord& record) {
  pb::SessionRecord message;
  message.set_session_id(record.id);
  *message.mutable_plan() = ToProto(record.plan);
  message.set_plan_digest(Digest(record.plan));
  message.set_state(ToProto(record.state));
  message.set_opened_at_unix_ms(absl::ToUnixMillis(record.opened_at));
  message.set_lease_until_unix_ms(absl::ToUnixMillis(record.lease_until));
  message.set_bytes_sent(record.bytes_sent);
  message.set_bytes_received(record.bytes_received);
  message.set_identity(Cut(CleanLine(record.identity), kMaxReasonBytes));
  return message;
}

absl::StatusOr<std::vector<SessionRecord>> FromProto(
    const pb::ListSessionsResponse& message) {
  FERRY_RETURN_IF_ERROR(CheckCount(message.sessions_size(),
                                   Field{nullptr, "sessions"}, kMaxSessions));
  std::vector<SessionRecord> records;
  for (int i = 0; i < message.sessions_size(); ++i) {
    FERRY_ASSIGN_OR_RETURN(
        SessionRecord record,
        Record(message.sessions(i), Field{nullptr, "sessions", i}));
    records.push_back(std::move(record));
  }
  return records;
}

uint32_t LeaseMs(absl::Duration lease) {
  return static_cast<uint32_t>(absl::ToInt64Milliseconds(
      std::clamp(lease, kShortestLease, kLongestLease)));
}

absl::Duration LeaseOf(uint32_t lease_ms) {
  if (lease_ms == 0) return kUsualLease;
  return std::clamp(absl::Milliseconds(lease_ms), kShortestLease,
                    kLongestLease);
}

}  // namespace tensorferry::control_proto
