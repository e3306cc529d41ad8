#include "cli/commands.h"

namespace tensorferry::cli {

std::vector<Command> AllCommands() {
  return {ServeCommand(),    ListCommand(),    PullCommand(),
          PushCommand(),     ExplainCommand(), DescribeCommand(),
          SessionsCommand(), DoctorCommand(),  BenchCommand()};
}

}  // namespace tensorferry::cli
