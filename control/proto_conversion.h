// Internal to control/: values to and from their protobuf messages. The way in
// validates everything that a peer can have sent: INVALID_ARGUMENT with the
// path of the field, like "offer.to_callee.rules[3].target: ...".
#ifndef TENSORFERRY_CONTROL_PROTO_CONVERSION_H_
#define TENSORFERRY_CONTROL_PROTO_CONVERSION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/capabilities.h"
#include "control/control_stream.h"
#include "control/lease.h"
#include "control/negotiate.h"
#include "control/offer.h"
#include "control/session_plan.h"
#include "control/session_table.h"
#include "tensorferry/control/control.pb.h"

namespace tensorferry::control_proto {

namespace pb = ::tensorferry::control::v1;

// Bounds on what a peer may send; all generous to honest peers.
inline constexpr int kMaxDevices = 128;
inline constexpr int kMaxPaths = 64;
inline constexpr int kMaxRules = 1024;        // of one direction
inline constexpr int kMaxPathChoices = 1024;  // of a plan
inline constexpr int kMaxObjections = 4096;
inline constexpr int kMaxSessions = kMostSessions;
inline constexpr size_t kMaxNameBytes = 256;  // of peers, devices, paths, hosts
inline constexpr size_t kMaxGlobBytes = 1024;
inline constexpr size_t kMaxAllGlobBytes = 64 << 10;  // of one direction
inline constexpr size_t kMaxReasonBytes = 2048;
inline constexpr size_t kMaxStatusBytes = 64 << 10;
inline constexpr size_t kSessionKeyBytes = 16;

pb::Status ToProto(const absl::Status& status);
pb::Capabilities ToProto(const Capabilities& capabilities);
pb::Offer ToProto(const Offer& offer);
pb::SessionPlan ToProto(const SessionPlan& plan);
pb::LaneTicket ToProto(const LaneTicket& ticket);
pb::ExplainResponse ToProto(const Explanation& explanation);
pb::SessionRecord ToProto(const SessionRecord& record);

// What a peer said in `message`, into `status`; the returned one says whether
// that could be understood.
absl::Status FromProto(const pb::Status& message, absl::string_view field,
                       absl::Status* status);
absl::StatusOr<Capabilities> FromProto(const pb::Capabilities& message,
                                       absl::string_view field);
absl::StatusOr<Offer> FromProto(const pb::Offer& message,
                                absl::string_view field);
absl::StatusOr<SessionPlan> FromProto(const pb::SessionPlan& message,
                                      absl::string_view field);
absl::StatusOr<LaneTicket> FromProto(const pb::LaneTicket& message,
                                     absl::string_view field);
absl::StatusOr<Explanation> FromProto(const pb::ExplainResponse& message);
absl::StatusOr<std::vector<SessionRecord>> FromProto(
    const pb::ListSessionsResponse& message);

// A lease as it is sent, and as it is understood: from 100 ms to an hour.
uint32_t LeaseMs(absl::Duration lease);
absl::Duration LeaseOf(uint32_t lease_ms);

}  // namespace tensorferry::control_proto

#endif  // TENSORFERRY_CONTROL_PROTO_CONVERSION_H_
