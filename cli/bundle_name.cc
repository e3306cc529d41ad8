#include "cli/bundle_name.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "catalog/bundle.h"
#include "cli/arguments.h"

namespace tensorferry::cli {

absl::StatusOr<std::string> BundleNameOf(const std::string& path) {
  absl::string_view name = path;
  if (const size_t slash = name.rfind('/'); slash != name.npos) {
    name.remove_prefix(slash + 1);
  }
  if (!absl::ConsumeSuffix(&name, ".safetensors")) {
    return UsageError(absl::StrCat("\"", absl::Utf8SafeCEscape(path),
                                   "\" is not called FILE.safetensors"));
  }
  if (const absl::Status status = CheckBundleName(name); !status.ok()) {
    return UsageError(absl::StrCat("\"", absl::Utf8SafeCEscape(path),
                                   "\": ", std::string(status.message())));
  }
  return std::string(name);
}

}  // namespace tensorferry::cli
