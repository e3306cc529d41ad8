#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/values.h"
#include "session/blocking.h"

namespace tensorferry::cli {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);

Json ToJson(const PathChoice& choice) {
  Json json = {{"caller_device", ToString(choice.caller_device)},
               {"callee_device", ToString(choice.callee_device)},
               {"ranked", choice.ranked},
               {"through_host", choice.through_host}};
  json["refused"] = Json::array();
  for (const PathRefusal& refusal : choice.refused) {
    json["refused"].push_back(
        {{"path", refusal.path}, {"reason", refusal.reason}});
  }
  return json;
}

void Show(const Explanation& explanation, Output& output) {
  Json& json = output.json();
  json["caller"] = explanation.plan.caller.name;
  json["callee"] = explanation.plan.callee.name;
  json["plan_digest"] = Digest(explanation.plan);
  json["wire_version"] = explanation.plan.wire_version;
  json["digests"] = explanation.plan.digests;
  json["paths"] = Json::array();
  for (const PathChoice& choice : explanation.plan.paths) {
    json["paths"].push_back(ToJson(choice));
  }
  json["objections"] = Json::array();
  for (const absl::Status& objection : explanation.objections) {
    json["objections"].push_back(
        {{"status", absl::StatusCodeToString(objection.code())},
         {"message", std::string(objection.message())}});
  }
  output.Print(Printable(ToString(explanation.plan)));
}

absl::StatusOr<Offer> OfferOf(const Arguments& arguments) {
  FERRY_ASSIGN_OR_RETURN(Placement placement, PlacementOf(arguments, "map"));
  const std::string direction = arguments.Get("direction", "pull");
  Offer offer;
  if (direction == "pull") {
    offer.to_caller = std::move(placement);
  } else if (direction == "push") {
    offer.to_callee = std::move(placement);
    offer.to_caller = Placement();
  } else {
    return UsageError("--direction is neither pull nor push");
  }
  return offer;
}

absl::Status Explain(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(Offer offer, OfferOf(arguments));
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<Peer> peer, ConnectingPeer(arguments));
  FERRY_ASSIGN_OR_RETURN(Explanation explanation,
                         blocking::Explain(*peer, arguments.positional(0),
                                           std::move(offer), kTimeout));
  Show(explanation, output);
  if (explanation.objections.empty()) return absl::OkStatus();
  return absl::Status(
      explanation.objections[0].code(),
      absl::StrJoin(explanation.objections, "\n",
                    [](std::string* text, const absl::Status& objection) {
                      absl::StrAppend(text, std::string(objection.message()));
                    }));
}

}  // namespace

Command ExplainCommand() {
  return {
      "explain",
      "Says what a session with a peer would be, or why there can be none.",
      {"ADDRESS"},
      {{"map", "SRC=DST", "As for pull and push.", true},
       {"direction", "pull|push",
        "Which way the tensors of --map go. Default: pull."}},
      "Opens nothing. For each pair of devices it names the paths, best first, "
      "and for\neach path that is not taken, why, and what to change.\n\n"
      "  tensorferry explain 127.0.0.1:4750\n"
      "  tensorferry explain 127.0.0.1:4750 --map cpu=cpu\n",
      Explain};
}

}  // namespace tensorferry::cli
