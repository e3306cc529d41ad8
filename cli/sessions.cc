#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/await.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/security_flags.h"
#include "cli/values.h"
#include "control/control_client.h"

namespace tensorferry::cli {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);

std::string ShowState(SessionState state) {
  switch (state) {
    case SessionState::kOpening:
      return "opening";
    case SessionState::kOpen:
      return "open";
    case SessionState::kDraining:
      return "draining";
  }
  return "unknown";
}

Json ToJson(const SessionRecord& session) {
  return {{"id", session.id},
          {"caller", session.plan.caller.name},
          {"callee", session.plan.callee.name},
          {"identity", session.identity},
          {"state", ShowState(session.state)},
          {"opened_at", absl::FormatTime(absl::RFC3339_full, session.opened_at,
                                         absl::UTCTimeZone())},
          {"bytes_sent", session.bytes_sent},
          {"bytes_received", session.bytes_received}};
}

absl::Status Sessions(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(
      auto client,
      ControlClient::Create(arguments.positional(0),
                            {.security = ClientSecurityOf(arguments)}));
  using Records = std::vector<SessionRecord>;
  FERRY_ASSIGN_OR_RETURN(Records sessions,
                         Await<Records>([&](Done<Records> done) {
                           client->ListSessions(kTimeout, std::move(done));
                         }));
  output.json()["sessions"] = Json::array();
  for (const SessionRecord& session : sessions) {
    output.json()["sessions"].push_back(ToJson(session));
    output.Print(Printable(absl::StrFormat(
        "%s   %-8s from %s (%s)   %s sent   %s received   for %s\n",
        OneLine(session.id), ShowState(session.state),
        OneLine(session.plan.caller.name), OneLine(session.identity),
        ShowBytes(session.bytes_sent), ShowBytes(session.bytes_received),
        ShowTime(absl::Now() - session.opened_at))));
  }
  if (sessions.empty()) output.Print("no session is open\n");
  return absl::OkStatus();
}

}  // namespace

Command SessionsCommand() {
  return {"sessions",
          "Lists the sessions that others have opened with a peer.",
          {"ADDRESS"},
          {},
          "  tensorferry sessions 127.0.0.1:4750\n",
          Sessions};
}

}  // namespace tensorferry::cli
