#include "cli/help.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/security_flags.h"

namespace tensorferry::cli {
namespace {

std::string Shown(const Flag& flag) {
  return absl::StrCat("--", flag.name, flag.value.empty() ? "" : " ",
                      flag.value);
}

}  // namespace

std::vector<Flag> FlagsOf(const Command& command) {
  std::vector<Flag> flags = command.flags;
  const auto& words = command.positionals;
  if (std::find(words.begin(), words.end(), "ADDRESS") != words.end()) {
    for (Flag& flag : CallingFlags()) flags.push_back(std::move(flag));
  }
  flags.push_back({"json", "", "Print one JSON object on stdout."});
  return flags;
}

std::string UsageLine(const Command& command) {
  std::string line = absl::StrCat("tensorferry ", command.name);
  for (const std::string& positional : command.positionals) {
    absl::StrAppend(&line, " ", positional);
  }
  for (const Flag& flag : FlagsOf(command)) {
    absl::StrAppend(&line, flag.needed ? " " : " [", Shown(flag),
                    flag.needed ? "" : "]", flag.repeated ? "..." : "");
  }
  return line;
}

std::string HelpOn(const Command& command) {
  std::string text = absl::StrCat(command.summary, "\n\n  ", UsageLine(command),
                                  "\n\n", command.help);
  absl::StrAppend(&text,
                  "\nFlags, and the variables that stand in for them:\n");
  for (const Flag& flag : FlagsOf(command)) {
    absl::StrAppendFormat(&text, "  %s%s   (%s)\n      %s\n", Shown(flag),
                          flag.repeated ? " ..." : "", VariableOf(flag),
                          flag.help);
  }
  return text;
}

std::string HelpOnAll(const std::vector<Command>& commands) {
  std::string text =
      "tensorferry moves PyTorch tensors between processes.\n\n"
      "  tensorferry COMMAND [WORDS] [--flags]\n\nCommands:\n";
  for (const Command& command : commands) {
    absl::StrAppendFormat(&text, "  %-10s%s\n", command.name, command.summary);
  }
  absl::StrAppend(
      &text,
      "\nTry it, in two terminals:\n"
      "  tensorferry serve --name demo --control 127.0.0.1:4750 "
      "--publish model.safetensors\n"
      "  tensorferry pull 127.0.0.1:4750 --out copy.safetensors\n\n"
      "`tensorferry COMMAND --help` explains one. --json makes every command\n"
      "print one object, with \"status\" and \"message\" in it. The exit code "
      "is 0 for\nOK, 2 for a mistake on the command line, 1 for all else.\n");
  return text;
}

}  // namespace tensorferry::cli
