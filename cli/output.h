#ifndef TENSORFERRY_CLI_OUTPUT_H_
#define TENSORFERRY_CLI_OUTPUT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry::cli {

using Json = nlohmann::ordered_json;

// What a command says: to people on stdout as it goes, or with --json one
// object on stdout at the end, to which the command adds its keys. What is
// neither, logs and progress, goes to stderr, by Log.
class Output {
 public:
  explicit Output(bool json) : is_json_(json) {}

  bool is_json() const { return is_json_; }
  Json& json() { return object_; }
  // For people: left out with --json.
  void Print(absl::string_view text);
  // Any thread.
  void Log(absl::string_view line) const;

  // The last word: the object, or the error on stderr. Returns `status`, or if
  // it is OK and stdout took not all, what is wrong with stdout.
  absl::Status Finish(const absl::Status& status);

 private:
  void Write(absl::string_view text);

  const bool is_json_;
  Json object_ = Json::object();
  int write_error_ = 0;  // the first errno of stdout
};

// `text` as a terminal may be shown it: what a peer wrote must not move the
// cursor. Lines stay lines.
std::string Printable(absl::string_view text);

// The same for a name or text within a line: it cannot begin another one.
std::string OneLine(absl::string_view text);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_OUTPUT_H_
