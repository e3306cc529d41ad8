#include "catalog/pull.h"

#include <cstdio>
#include <utility>

#include "base/status_macros.h"
#include "catalog/atomic_file.h"
#include "catalog/blocking.h"
#include "catalog/safetensors.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/progress_line.h"
#include "cli/receipt.h"

namespace tensorferry::cli {
namespace {

absl::StatusOr<Pulled> PullFrom(const Arguments& arguments,
                                TransferSettings settings) {
  settings.offer.to_caller = settings.placement;
  FERRY_ASSIGN_OR_RETURN(
      Connection connection,
      Connection::Open(arguments.positional(0), settings.offer, settings.Left(),
                       arguments));
  PullOptions options;
  options.bundle = arguments.Get("bundle");
  options.names = arguments.Get("names", "*");
  options.timeout = settings.Left();
  ProgressLine progress(stderr, "pull");
  options.progress = progress.Callback();
  absl::StatusOr<Pulled> pulled =
      blocking::Pull(connection.session(), std::move(options));
  connection.Close();
  return pulled;
}

absl::Status Pull(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(TransferSettings settings,
                         TransferSettingsOf(arguments));
  // What cannot be written need not be pulled.
  FERRY_RETURN_IF_ERROR(AtomicFile::Create(arguments.Get("out")).status());
  FERRY_ASSIGN_OR_RETURN(Pulled pulled,
                         PullFrom(arguments, std::move(settings)));
  FERRY_RETURN_IF_ERROR(
      WriteSafetensors(arguments.Get("out"), pulled.contents));
  ShowReceipt(pulled.receipt, pulled.bundles, output);
  output.json()["out"] = arguments.Get("out");
  return absl::OkStatus();
}

}  // namespace

Command PullCommand() {
  std::vector<Flag> flags = {
      {"out", "FILE.safetensors", "The file to write.", false, true},
      {"bundle", "NAME", "Which bundle. Default: all that the peer has."},
      {"names", "GLOB", kNamesHelp}};
  for (Flag& flag : TransferFlags()) flags.push_back(std::move(flag));
  return {
      "pull",
      "Gets tensors from a peer and writes them to a file.",
      {"ADDRESS"},
      std::move(flags),
      "All tensors are of one version, whatever is published meanwhile; the "
      "receipt says\nwhich. The file appears when it is complete, with the "
      "permissions of the one that\nit replaces, and a whole bundle that was "
      "read from a file gives the same file, byte\nfor byte. A pull that is "
      "killed leaves nothing (a .partial file where the file\nsystem has no "
      "O_TMPFILE). If FILE is a symbolic link, what it names is replaced.\n"
      "Without --bundle, a tensor name that two bundles have is an error that "
      "says to\nchoose.\n\n"
      "In the receipt, bytes and seconds are those of the message that "
      "brought the\ntensors, with its description and without connecting "
      "and writing the file.\nThe digest is over every storage and the answer "
      "that came with them: the same for\nthe same pull, another for a push "
      "of the same tensors.\n\n"
      "  tensorferry pull 127.0.0.1:4750 --out copy.safetensors\n"
      "  tensorferry pull 127.0.0.1:4750 --out encoder.safetensors --bundle "
      "model \\\n      --names 'encoder.*' --deadline 2m\n",
      Pull};
}

}  // namespace tensorferry::cli
