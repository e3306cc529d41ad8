#ifndef TENSORFERRY_CLI_RUN_H_
#define TENSORFERRY_CLI_RUN_H_

#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/command.h"

namespace tensorferry::cli {

// Runs the command that `words` (those after the program's name) name, and
// returns the program's exit code.
int Run(const std::vector<Command>& commands,
        const std::vector<std::string>& words, const Environment& environment);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_RUN_H_
