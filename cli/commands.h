#ifndef TENSORFERRY_CLI_COMMANDS_H_
#define TENSORFERRY_CLI_COMMANDS_H_

#include <vector>

#include "cli/command.h"

namespace tensorferry::cli {

// All there are, in the order of the help.
std::vector<Command> AllCommands();

Command ServeCommand();
Command ListCommand();
Command PullCommand();
Command PushCommand();
Command ExplainCommand();
Command DescribeCommand();
Command SessionsCommand();
Command DoctorCommand();
Command BenchCommand();

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_COMMANDS_H_
