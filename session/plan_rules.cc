#include "session/plan_rules.h"

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

absl::Status NoStream(c10::Device device, const c10::Error& error) {
  return absl::FailedPreconditionError(absl::StrCat(
      "no stream on ", device.str(), ": ", error.what_without_backtrace()));
}

// kPool is what a plan says where nobody has asked for a kind. A type without a
// guard, or whose guard has no pool, has all of its work on its default stream.
// FAILED_PRECONDITION: the device has failed; the type has none of high
// priority.
absl::StatusOr<c10::Stream> FromPool(c10::Device device, bool high_priority) {
  try {
    return c10::impl::VirtualGuardImpl(device.type())
        .getStreamFromGlobalPool(device, high_priority);
  } catch (const c10::AcceleratorError& e) {
    return NoStream(device, e);
  } catch (const c10::Error& e) {
    if (high_priority) return NoStream(device, e);
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
}

absl::StatusOr<c10::Stream> MakeStream(const StreamSpec& spec) {
  FERRY_ASSIGN_OR_RETURN(const c10::Device device, TorchDeviceOf(spec.device));
  if (spec.kind == StreamKind::kDefault) {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  return FromPool(device, spec.kind == StreamKind::kHighPriority);
}

absl::StatusOr<StreamSet> MakeStreams(const std::vector<StreamSpec>& specs) {
  StreamSet streams;
  for (const StreamSpec& spec : specs) {
    if (spec.device.is_cpu()) continue;
    FERRY_ASSIGN_OR_RETURN(c10::Stream stream, MakeStream(spec));
    streams.push_back(stream);
  }
  return streams;
}

// All paths that some device pair of the plan may take, best first.
std::vector<std::string> PathsOf(const SessionPlan& plan) {
  std::vector<std::string> paths;
  for (const PathChoice& choice : plan.paths) {
    for (const std::string& path : choice.ranked) {
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) {
        paths.push_back(path);
      }
    }
  }
  return paths;
}

}  // namespace

absl::StatusOr<TransferRules> RulesFor(const SessionPlan& plan, Side side,
                                       std::string session_id) {
  const bool caller = side == Side::kCaller;
  TransferRules rules;
  rules.session_id = std::move(session_id);
  rules.peer_name = caller ? plan.callee.name : plan.caller.name;
  rules.plan_digest = Digest(plan);
  rules.wire_version = plan.wire_version;
  rules.outgoing = caller ? plan.to_callee : plan.to_caller;
  rules.incoming = caller ? plan.to_caller : plan.to_callee;
  rules.limits = plan.limits;
  rules.paths = PathsOf(plan);
  rules.digests = plan.digests;
  rules.own_carried = caller ? plan.caller_carried : plan.callee_carried;
  rules.peer_carried = caller ? plan.callee_carried : plan.caller_carried;
  for (const PathChoice& choice : plan.paths) {
    if (!choice.through_host) continue;
    rules.through_host.insert(
        caller ? std::pair(choice.caller_device, choice.callee_device)
               : std::pair(choice.callee_device, choice.caller_device));
  }
  FERRY_ASSIGN_OR_RETURN(
      rules.send_streams,
      MakeStreams(caller ? plan.caller_streams : plan.callee_streams));
  rules.receive_streams = rules.send_streams;
  return rules;
}

}  // namespace tensorferry
