#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/findings.h"
#include "serialization/converter_registry.h"

namespace tensorferry::cli {
namespace {

std::string ShowLevel(Finding::Level level) {
  switch (level) {
    case Finding::Level::kGood:
      return "good";
    case Finding::Level::kNote:
      return "note";
    case Finding::Level::kProblem:
      return "problem";
  }
  return "unknown";
}

absl::Status Doctor(const Arguments&, Output& output) {
  std::vector<std::string> problems;
  output.json()["findings"] = Json::array();
  for (const Finding& finding : CheckAll()) {
    output.json()["findings"].push_back({{"what", finding.what},
                                         {"level", ShowLevel(finding.level)},
                                         {"found", finding.found},
                                         {"meaning", finding.meaning}});
    output.Print(Printable(
        absl::StrFormat("%-9s%-15s%s\n%24s%s\n", ShowLevel(finding.level),
                        finding.what, finding.found, "", finding.meaning)));
    if (finding.level == Finding::Level::kProblem) {
      problems.push_back(absl::StrCat(finding.what, ": ", finding.meaning));
    }
  }
  output.json()["devices"] = Json::array();
  for (const DeviceInfo& device : ConverterRegistry::Global().Devices()) {
    output.json()["devices"].push_back(DeviceToJson(device));
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(problems, "\n"));
}

}  // namespace

Command DoctorCommand() {
  return {"doctor",
          "Says what this machine can do, and what each finding means.",
          {},
          {},
          "Looks at addresses, copying between processes, limits, "
          "libtorch, GPUs and\nmemory. OK unless there is a "
          "`problem`: tensors cannot be moved then.\n\n"
          "  tensorferry doctor\n",
          Doctor};
}

}  // namespace tensorferry::cli
