#ifndef TENSORFERRY_CATALOG_BUNDLE_H_
#define TENSORFERRY_CATALOG_BUNDLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/device_id.h"
#include "catalog/named_tensors.h"

namespace tensorferry {

class NameMatching;

// A named, versioned, immutable set of named tensors. A newer version is
// another Bundle; whoever holds one keeps it whole.
struct Bundle {
  std::string name;
  uint64_t version = 0;  // counted from 1, per name
  NamedTensors contents;
};

using BundlePtr = std::shared_ptr<const Bundle>;

// What can be said of a bundle without its bytes; what List answers.
struct TensorInfo {
  std::string name;
  std::string dtype;  // libtorch's: "Float"
  std::vector<int64_t> shape;
  DeviceId device;
  uint64_t nbytes = 0;
};

struct BundleInfo {
  std::string name;
  uint64_t version = 0;
  uint64_t nbytes = 0;  // of `tensors`
  std::map<std::string, std::string> metadata;
  std::vector<TensorInfo> tensors;
};

// `bundle`, with those of its tensors whose names `names_glob` matches; the
// second for a glob of a peer's, within the work that is allowed for it.
BundleInfo Describe(const Bundle& bundle, absl::string_view names_glob);
BundleInfo Describe(const Bundle& bundle, absl::string_view names_glob,
                    NameMatching& matching);

// A bundle's name is also a file's: 1 to 200 bytes of UTF-8 without '/',
// control characters, '*' and '?', not starting with '.'.
// INVALID_ARGUMENT: says what is wrong with it.
absl::Status CheckBundleName(absl::string_view name);

// INVALID_ARGUMENT: a glob of more than 4096 bytes, as long as names may be.
absl::Status CheckGlob(absl::string_view glob);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_BUNDLE_H_
