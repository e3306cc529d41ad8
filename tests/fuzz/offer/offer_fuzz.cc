// The first message of a session, as any process that reaches the control port
// can send it: parsed, validated, negotiated.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/status/statusor.h"
#include "control/negotiate.h"
#include "control/proto_conversion.h"
#include "tensorferry/control/control.pb.h"
#include "tests/control/test_values.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

void CheckAgreed(const SessionPlan& plan, const Offer& offer,
                 const Capabilities& caller) {
  // The caller agrees, and the plan survives the way to it.
  Check(CheckPlan(plan, offer, caller).ok());
  auto back = control_proto::FromProto(control_proto::ToProto(plan), "plan");
  Check(back.ok() && Digest(*back) == Digest(plan));
}

void Open(const control::v1::Open& open) {
  auto offer = control_proto::FromProto(open.offer(), "offer");
  auto caller = control_proto::FromProto(open.caller(), "caller");
  if (!offer.ok() || !caller.ok()) return;
  Capabilities callee = testing::PeerWith("bob", {"cuda:0", "cuda:1"});
  Policy policy;
  policy.devices = {{}, {"cuda", 1}};

  Explanation explanation = Explain(*offer, *caller, callee, policy);
  auto plan = Negotiate(*offer, *caller, callee, policy);
  Check(plan.ok() == explanation.objections.empty());
  if (plan.ok()) CheckAgreed(*plan, *offer, *caller);

  auto told = control_proto::FromProto(control_proto::ToProto(explanation));
  Check(told.ok());
  Check(told->objections.size() == explanation.objections.size());
  Check(!ToString(told->plan).empty());
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::control::v1::SessionRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  if (request.has_open()) tensorferry::Open(request.open());
  return 0;
}
