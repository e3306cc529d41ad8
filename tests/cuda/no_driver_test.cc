// NVIDIA's own runtime on a machine without a driver.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda/devices.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(NoDriverTest, IsSaidWithWhatToDo) {
  if (dlopen("libcuda.so.1", RTLD_LAZY) != nullptr) {
    GTEST_SKIP() << "this machine has a driver";
  }
  EXPECT_THAT(CudaDevices(), IsEmpty());
  EXPECT_EQ(CudaUuid(0), "");
  EXPECT_THAT(CudaUsable(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("no NVIDIA driver")));
}

}  // namespace
}  // namespace tensorferry
