#ifndef TENSORFERRY_CONTROL_POLICY_FILE_H_
#define TENSORFERRY_CONTROL_POLICY_FILE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "control/authorizer.h"
#include "control/reloaded_file.h"

namespace tensorferry {

// A rule of control/policy.proto.
struct PolicyRule {
  std::vector<std::string> who;
  Grants grants;
};

// INVALID_ARGUMENT: what is wrong, as "LINE:COLUMN: ...".
absl::StatusOr<std::vector<PolicyRule>> ParsePolicy(absl::string_view text);

// What the first rule that names `identity` gives; nothing if none does.
Grants GrantsFrom(const std::vector<PolicyRule>& rules,
                  const Identity& identity);

// The rules of a file (control/policy.proto), read again when the file is
// another one. Thread-safe.
class PolicyFile final : public Authorizer {
 public:
  // `on_reload`: see ReloadedFile. NOT_FOUND, PERMISSION_DENIED: the file;
  // INVALID_ARGUMENT: what stands in it.
  static absl::StatusOr<std::shared_ptr<PolicyFile>> Open(
      const std::string& path, OnReload on_reload = nullptr);

  Grants GrantsOf(const Identity& identity) const override;

 private:
  using File = ReloadedFile<std::vector<PolicyRule>>;
  explicit PolicyFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  const std::unique_ptr<File> file_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_POLICY_FILE_H_
