#include "cli/arguments.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace tensorferry::cli {
namespace {

constexpr char kUsagePayload[] = "tensorferry/usage";

const Flag* Find(const std::vector<Flag>& flags, const std::string& name) {
  for (const Flag& flag : flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

absl::Status UnknownFlag(const std::vector<Flag>& flags,
                         const std::string& name) {
  std::vector<std::string> known;
  for (const Flag& flag : flags) known.push_back(flag.name);
  const std::string meant = Nearest(name, known);
  return UsageError(absl::StrCat(
      "there is no flag --", absl::Utf8SafeCEscape(name),
      meant.empty() ? "" : absl::StrCat("; did you mean --", meant, "?")));
}

// Steps from one word to the other, each a letter added, dropped or changed.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value();
}

std::string VariableOf(const Flag& flag) {
  return absl::StrCat("TENSORFERRY_", absl::AsciiStrToUpper(flag.name));
}

std::string Nearest(absl::string_view word,
                    const std::vector<std::string>& known) {
  std::string nearest;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = Distance(word, candidate);
    if (distance >= least) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

absl::StatusOr<Arguments> Arguments::Parse(
    const std::vector<Flag>& flags, const std::vector<std::string>& positionals,
    const std::vector<std::string>& words, const Environment& environment) {
  Arguments arguments;
  FERRY_RETURN_IF_ERROR(arguments.ParseWords(flags, words));
  FERRY_RETURN_IF_ERROR(arguments.AddFromEnvironment(flags, environment));
  for (const Flag& flag : flags) {
    if (!flag.needed || arguments.Has(flag.name)) continue;
    return UsageError(
        absl::StrCat("--", flag.name, " ", flag.value, " is missing"));
  }
  const size_t got = arguments.positionals_.size();
  if (got < positionals.size()) {
    return UsageError(absl::StrCat(positionals[got], " is missing"));
  }
  if (got > positionals.size()) {
    return UsageError(absl::StrCat(
        "\"", absl::Utf8SafeCEscape(arguments.positionals_[positionals.size()]),
        "\" is one word too many; the command takes ",
        positionals.empty() ? "none" : absl::StrJoin(positionals, " ")));
  }
  return arguments;
}

absl::Status Arguments::ParseWords(const std::vector<Flag>& flags,
                                   const std::vector<std::string>& words) {
  bool only_positionals = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (only_positionals || word.size() < 2 || word[0] != '-') {
      positionals_.push_back(word);
      continue;
    }
    if (word == "--") {
      only_positionals = true;
      continue;
    }
    const size_t dashes = word[1] == '-' ? 2 : 1;
    const size_t equals = word.find('=');
    const std::string name = absl::StrReplaceAll(
        word.substr(dashes, equals == std::string::npos ? std::string::npos
                                                        : equals - dashes),
        {{"-", "_"}});
    const Flag* flag = dashes == 2 ? Find(flags, name) : nullptr;
    if (flag == nullptr) return UnknownFlag(flags, name);
    std::vector<std::string>& values = values_[name];
    if (!values.empty() && !flag->repeated) {
      return UsageError(absl::StrCat("--", name, " is given twice"));
    }
    if (flag->value.empty()) {
      if (equals != std::string::npos) {
        return UsageError(absl::StrCat("--", name, " takes no value"));
      }
      values.push_back("on");
    } else if (equals != std::string::npos) {
      values.push_back(word.substr(equals + 1));
    } else if (i + 1 < words.size() && !absl::StartsWith(words[i + 1], "--")) {
      values.push_back(words[++i]);
    } else {
      return UsageError(
          absl::StrCat("--", name, " needs a value: ", flag->value));
    }
  }
  return absl::OkStatus();
}

absl::Status Arguments::AddFromEnvironment(const std::vector<Flag>& flags,
                                           const Environment& environment) {
  for (const Flag& flag : flags) {
    if (Has(flag.name)) continue;
    const std::optional<std::string> value = environment(VariableOf(flag));
    if (!value.has_value() || value->empty()) continue;
    if (flag.value.empty()) {
      if (*value == "on" || *value == "1") values_[flag.name] = {"on"};
      if (*value == "on" || *value == "1" || *value == "off" || *value == "0") {
        continue;
      }
      return UsageError(absl::StrCat(VariableOf(flag), " is \"",
                                     absl::Utf8SafeCEscape(*value),
                                     "\": set it to on or off"));
    }
    if (flag.repeated) {
      values_[flag.name] = absl::StrSplit(*value, ',');
    } else {
      values_[flag.name] = {*value};
    }
  }
  return absl::OkStatus();
}

std::string Arguments::Get(const std::string& flag,
                           std::string otherwise) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? otherwise : found->second.front();
}

std::vector<std::string> Arguments::All(const std::string& flag) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

}  // namespace tensorferry::cli
