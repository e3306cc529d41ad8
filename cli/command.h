#ifndef TENSORFERRY_CLI_COMMAND_H_
#define TENSORFERRY_CLI_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cli/arguments.h"
#include "cli/output.h"

namespace tensorferry::cli {

// One command of the program. All there are stand in commands.cc.
struct Command {
  std::string name;
  std::string summary;                   // one line
  std::vector<std::string> positionals;  // "ADDRESS"
  std::vector<Flag> flags;               // besides --help and --json
  std::string help;                      // what one has to know, with examples
  // UsageError: exit code 2. Any other status but OK: 1.
  absl::Status (*run)(const Arguments& arguments, Output& output);
};

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_COMMAND_H_
