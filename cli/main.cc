#include <signal.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  // A reader that is gone and a file that is too long are errors of the write,
  // which says so, and not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  const std::vector<std::string> words(argv + (argc > 0), argv + argc);
  return tensorferry::cli::Run(
      tensorferry::cli::AllCommands(), words,
      [](const std::string& variable) -> std::optional<std::string> {
        const char* value = std::getenv(variable.c_str());
        if (value == nullptr) return std::nullopt;
        return std::string(value);
      });
}
