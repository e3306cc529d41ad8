#ifndef TENSORFERRY_CLI_ARGUMENTS_H_
#define TENSORFERRY_CLI_ARGUMENTS_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry::cli {

struct Flag {
  std::string name;   // "ready_file"; '-' is as good as '_' on the command line
  std::string value;  // what help calls it: "PATH"; empty: a switch
  std::string help;
  bool repeated = false;
  bool needed = false;
};

// INVALID_ARGUMENT, marked as the user's mistake on the command line.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

// A variable's value, or nothing; ::getenv in the program.
using Environment =
    std::function<std::optional<std::string>(const std::string& variable)>;

// "TENSORFERRY_READY_FILE": read where the flag was not given. A repeated
// flag's values are separated by commas there.
std::string VariableOf(const Flag& flag);

// What the user gave a command.
class Arguments {
 public:
  // `words` are those after the command's name: "--name VALUE", "--name=VALUE",
  // "--switch", and what belongs to `positionals`; after "--" only these. A
  // value that starts with "--" needs the '='.
  // UsageError: an unknown flag, one twice that is not repeated, a needed one
  // that is missing, no value or one too many, a positional too many or too
  // few.
  static absl::StatusOr<Arguments> Parse(
      const std::vector<Flag>& flags,
      const std::vector<std::string>& positionals,
      const std::vector<std::string>& words, const Environment& environment);

  bool Has(const std::string& flag) const { return values_.count(flag) > 0; }
  // The value, or `otherwise` if the flag was not given.
  std::string Get(const std::string& flag, std::string otherwise = "") const;
  std::vector<std::string> All(const std::string& flag) const;
  const std::string& positional(size_t i) const { return positionals_[i]; }

 private:
  absl::Status ParseWords(const std::vector<Flag>& flags,
                          const std::vector<std::string>& words);
  absl::Status AddFromEnvironment(const std::vector<Flag>& flags,
                                  const Environment& environment);

  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> positionals_;
};

// The one of `known` that `word` was probably meant to be; empty: none is near.
std::string Nearest(absl::string_view word,
                    const std::vector<std::string>& known);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_ARGUMENTS_H_
