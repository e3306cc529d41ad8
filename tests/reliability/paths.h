#ifndef TENSORFERRY_TESTS_RELIABILITY_PATHS_H_
#define TENSORFERRY_TESTS_RELIABILITY_PATHS_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_replace.h"

namespace tensorferry {
namespace testing {

// Every path between host memories, the best first.
inline std::vector<std::string> CpuPaths() {
  return {"unix/local", "unix/basic", "tcp/basic", "tls/basic"};
}

// For INSTANTIATE_TEST_SUITE_P: "unix_local".
inline std::string PathName(const ::testing::TestParamInfo<std::string>& info) {
  return absl::StrReplaceAll(info.param, {{"/", "_"}});
}

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_PATHS_H_
