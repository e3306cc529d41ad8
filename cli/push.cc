#include "catalog/push.h"

#include <cstdio>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/blocking.h"
#include "catalog/safetensors.h"
#include "cli/bundle_name.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/progress_line.h"
#include "cli/receipt.h"

namespace tensorferry::cli {
namespace {

absl::StatusOr<NamedTensors> ReadChosen(const std::string& path,
                                        const std::string& names) {
  FERRY_ASSIGN_OR_RETURN(NamedTensors contents, ReadSafetensors(path));
  contents = Filter(contents, names);
  if (contents.names.empty() && names != "*") {
    return absl::NotFoundError(
        absl::StrCat("no tensor of ", path, " matches \"",
                     absl::Utf8SafeCEscape(names), "\""));
  }
  return contents;
}

absl::Status Push(const Arguments& arguments, Output& output) {
  const std::string& path = arguments.positional(0);
  PushOptions options;
  FERRY_ASSIGN_OR_RETURN(options.bundle, BundleNameOf(path));
  FERRY_ASSIGN_OR_RETURN(TransferSettings settings,
                         TransferSettingsOf(arguments));
  FERRY_ASSIGN_OR_RETURN(NamedTensors contents,
                         ReadChosen(path, arguments.Get("names", "*")));
  settings.offer.to_callee = settings.placement;
  settings.offer.to_caller = Placement();  // no tensors come back
  FERRY_ASSIGN_OR_RETURN(
      Connection connection,
      Connection::Open(arguments.positional(1), settings.offer, settings.Left(),
                       arguments));
  const std::string bundle = options.bundle;
  options.timeout = settings.Left();
  ProgressLine progress(stderr, "push");
  options.progress = progress.Callback();
  absl::StatusOr<Pushed> pushed = blocking::Push(
      connection.session(), std::move(contents), std::move(options));
  connection.Close();
  if (!pushed.ok()) return pushed.status();
  ShowReceipt(pushed->receipt, {{bundle, pushed->version}}, output);
  return absl::OkStatus();
}

}  // namespace

Command PushCommand() {
  std::vector<Flag> flags = {{"names", "GLOB", kNamesHelp}};
  for (Flag& flag : TransferFlags()) flags.push_back(std::move(flag));
  return {
      "push",
      "Sends a file's tensors to a peer, which publishes them.",
      {"FILE.safetensors", "ADDRESS"},
      std::move(flags),
      "The tensors become the next version of the bundle that is called as the "
      "file is.\nThe peer must take pushes: `tensorferry serve` does with "
      "--accept DIR. It is asked\nfirst, so that what it refuses, or has no "
      "room for, is not sent.\n\n"
      "The file is mapped, not read. One that was changed before its tensors "
      "are sent is\nFAILED_PRECONDITION; do not change it in place while "
      "they are: new bytes may be\nsent as old ones, and a file that is cut "
      "short ends the process with SIGBUS.\n\n"
      "In the receipt, bytes and digest are those of the message that brought "
      "the tensors,\nas the receiver counted them, with its description; "
      "seconds are from the offer to the\npublication.\n\n"
      "  tensorferry push model.safetensors 127.0.0.1:4750\n",
      Push};
}

}  // namespace tensorferry::cli
