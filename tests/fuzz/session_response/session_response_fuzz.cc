// What a callee sends on a control stream, as the caller takes it: parsed,
// validated, held against the offer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/status/status.h"
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

void Accepted(const control::v1::Accepted& accepted) {
  auto ticket = control_proto::FromProto(accepted.ticket(), "ticket");
  if (ticket.ok()) {
    Check(ticket->session_key.size() == control_proto::kSessionKeyBytes);
  }
  auto plan = control_proto::FromProto(accepted.plan(), "plan");
  if (!plan.ok()) return;
  auto back = control_proto::FromProto(control_proto::ToProto(*plan), "plan");
  Check(back.ok() && Digest(*back) == Digest(*plan));
  Check(!ToString(*plan).empty());

  Offer offer = testing::OfferOf({"cuda:0=cuda:1"});
  Capabilities caller = testing::PeerWith("alice", {"cuda:0"});
  if (!CheckPlan(*plan, offer, caller).ok()) return;
  Check(plan->caller == caller.peer);
  Check(plan->to_callee == offer.to_callee);
  Check(Smaller(plan->limits, caller.limits) == plan->limits);
}

void Goodbye(const control::v1::Goodbye& goodbye) {
  absl::Status said;
  auto valid = control_proto::FromProto(goodbye.status(), "status", &said);
  if (!valid.ok()) return;
  Check(said.message().find('\x1b') == absl::string_view::npos);
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::control::v1::SessionResponse response;
  if (!response.ParseFromArray(data, static_cast<int>(size))) return 0;
  if (response.has_accepted()) tensorferry::Accepted(response.accepted());
  if (response.has_goodbye()) tensorferry::Goodbye(response.goodbye());
  return 0;
}
