#ifndef TENSORFERRY_CLI_BUNDLE_NAME_H_
#define TENSORFERRY_CLI_BUNDLE_NAME_H_

#include <string>

#include "absl/status/statusor.h"

namespace tensorferry::cli {

// The bundle that a file becomes: "dir/model.safetensors" is "model".
// UsageError: another ending, or what cannot be a bundle's name.
absl::StatusOr<std::string> BundleNameOf(const std::string& path);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_BUNDLE_NAME_H_
