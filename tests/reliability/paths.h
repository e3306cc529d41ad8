#ifndef TENSORFERRY_TESTS_RELIABILITY_PATHS_H_
#define TENSORFERRY_TESTS_RELIABILITY_PATHS_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "transfer/backend_registry.h"

namespace tensorferry {
namespace testing {

// Every path between host memories that this program has: "unix/local", ...
inline std::vector<std::string> CpuPaths() {
  std::vector<std::string> names;
  for (const PathInfo& path : BackendRegistry::Global().Paths()) {
    if (path.from_type == "cpu" && path.to_type == "cpu" &&
        path.unusable.empty()) {
      names.push_back(path.name);
    }
  }
  return names;
}

// For INSTANTIATE_TEST_SUITE_P: "unix_local".
inline std::string PathName(const ::testing::TestParamInfo<std::string>& info) {
  return absl::StrReplaceAll(info.param, {{"/", "_"}});
}

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_PATHS_H_
