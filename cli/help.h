#ifndef TENSORFERRY_CLI_HELP_H_
#define TENSORFERRY_CLI_HELP_H_

#include <string>
#include <vector>

#include "cli/command.h"

namespace tensorferry::cli {

// The command's own, those of all that call a peer, and those that all have.
std::vector<Flag> FlagsOf(const Command& command);

// "tensorferry pull ADDRESS --out FILE [--json]".
std::string UsageLine(const Command& command);
std::string HelpOn(const Command& command);
std::string HelpOnAll(const std::vector<Command>& commands);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_HELP_H_
