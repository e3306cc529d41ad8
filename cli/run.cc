#include "cli/run.h"

#include <algorithm>
#include <exception>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cli/help.h"
#include "cli/output.h"
#include "control/address.h"

namespace tensorferry::cli {
namespace {

bool IsHelp(const std::string& word) {
  return word == "--help" || word == "-h";
}

const Command* Find(const std::vector<Command>& commands,
                    const std::string& name) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

// "--json" must be known before the flags are: their errors are said in it.
bool WantsJson(const std::vector<std::string>& words,
               const Environment& environment) {
  const auto end = std::find(words.begin(), words.end(), "--");
  if (std::find(words.begin(), end, "--json") != end) return true;
  const std::optional<std::string> variable = environment("TENSORFERRY_JSON");
  return variable == "on" || variable == "1";
}

absl::Status UnknownCommand(const std::vector<Command>& commands,
                            const std::string& word) {
  std::vector<std::string> known;
  for (const Command& command : commands) known.push_back(command.name);
  const std::string meant = Nearest(word, known);
  return UsageError(absl::StrCat(
      "there is no command \"", absl::Utf8SafeCEscape(word), "\"",
      meant.empty() ? "" : absl::StrCat("; did you mean ", meant, "?"),
      " `tensorferry --help` lists them"));
}

// Positionals that are addresses must look like some.
absl::Status CheckAddresses(const Command& command,
                            const Arguments& arguments) {
  for (size_t i = 0; i < command.positionals.size(); ++i) {
    if (command.positionals[i] != "ADDRESS") continue;
    const absl::Status status = ValidateControlAddress(arguments.positional(i));
    if (!status.ok()) return UsageError(std::string(status.message()));
  }
  return absl::OkStatus();
}

absl::Status RunCommand(const Command& command,
                        const std::vector<std::string>& words,
                        const Environment& environment, Output& output) {
  absl::StatusOr<Arguments> arguments = Arguments::Parse(
      FlagsOf(command), command.positionals, words, environment);
  absl::Status status = arguments.status();
  if (status.ok()) status = CheckAddresses(command, *arguments);
  if (status.ok()) {
    try {
      status = command.run(*arguments, output);
    } catch (const std::exception& error) {
      status = absl::InternalError(
          absl::StrCat("an exception got out: ", error.what()));
    }
  }
  if (!IsUsageError(status)) return status;
  return UsageError(absl::StrCat(std::string(status.message()),
                                 ". `tensorferry ", command.name,
                                 " --help` explains"));
}

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  return IsUsageError(status) ? 2 : 1;
}

int Show(const std::string& help) {
  Output output(/*json=*/false);
  output.Print(help);
  return ExitCode(output.Finish(absl::OkStatus()));
}

}  // namespace

int Run(const std::vector<Command>& commands,
        const std::vector<std::string>& words, const Environment& environment) {
  Output output(WantsJson(words, environment));
  if (words.empty()) {
    output.Log(HelpOnAll(commands));
    return 2;
  }
  if (IsHelp(words[0]) || (words[0] == "help" && words.size() == 1)) {
    return Show(HelpOnAll(commands));
  }
  const bool asks_help = words[0] == "help";
  const std::string& name = words[asks_help ? 1 : 0];
  const Command* const command = Find(commands, name);
  if (command == nullptr) {
    return ExitCode(output.Finish(UnknownCommand(commands, name)));
  }
  if (asks_help || std::any_of(words.begin(), words.end(), IsHelp)) {
    return Show(HelpOn(*command));
  }
  return ExitCode(output.Finish(RunCommand(
      *command, {words.begin() + 1, words.end()}, environment, output)));
}

}  // namespace tensorferry::cli
