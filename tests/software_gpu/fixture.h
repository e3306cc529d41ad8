#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_FIXTURE_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {

// A test on the software GPU, which passes only if all work of all devices
// ends well, nothing was found (no race, no call of a stub, ...) and nothing of
// what it allocated is left. A test that provokes findings takes them.
//
// A test's members are destroyed after TearDown: give back what they hold in a
// TearDown of your own that calls this one last.
class SoftwareGpuTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Called in between: what keeps memory in reserve gives it back.
  virtual void ReleaseCaches() {}

 private:
  std::map<uint64_t, std::string> resources_before_;
};

// What is wrong with this process: work of a device that did not end well,
// findings that nobody took, and what is allocated but not in `before`. Waits
// for all devices.
std::vector<std::string> TakeFaults(
    const std::map<uint64_t, std::string>& before);

// The kinds of the findings since the last look, in order.
std::vector<Finding::Kind> TakeKinds();

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_FIXTURE_H_
