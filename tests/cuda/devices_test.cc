// What is said of the GPUs, on the software GPU: how it is asked can be counted
// there.
#include "cuda/devices.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/software_gpu/fixture.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::WriteLine;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class CudaDevicesTest : public software_gpu::SoftwareGpuTest {
 protected:
  void TearDown() override {
    software_gpu::ClearFailures();
    software_gpu::SetPeerAccess(true);
    SoftwareGpuTest::TearDown();
  }
};

TEST_F(CudaDevicesTest, EachHasItsOwnNameUuidMemoryAndVersions) {
  const std::vector<DeviceInfo> devices = CudaDevices();
  ASSERT_THAT(devices, SizeIs(2));
  for (int index : {0, 1}) {
    EXPECT_EQ(devices[index].id, (DeviceId{"cuda", index}));
    EXPECT_EQ(devices[index].name, absl::StrCat("Software GPU ", index));
    EXPECT_THAT(devices[index].uuid, AllOf(StartsWith("GPU-"), SizeIs(40)));
    EXPECT_EQ(devices[index].uuid, CudaUuid(index));
    EXPECT_EQ(devices[index].total_bytes, uint64_t{4} << 30);
    EXPECT_EQ(devices[index].driver, "13.2");
    EXPECT_EQ(devices[index].runtime, "13.2");
  }
  EXPECT_NE(devices[0].uuid, devices[1].uuid);
  EXPECT_EQ(CudaUuid(2), "");
  EXPECT_EQ(CudaUuid(-1), "");
  EXPECT_THAT(CudaUsable(), IsOk());
}

TEST_F(CudaDevicesTest, FreeMemoryIsWhatIsFreeNow) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 1 << 20), cudaSuccess);
  const std::vector<DeviceInfo> devices = CudaDevices();
  EXPECT_EQ(devices[0].free_bytes, devices[0].total_bytes);
  EXPECT_EQ(devices[1].free_bytes, devices[1].total_bytes - (1 << 20));
  ASSERT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(CudaDevicesTest, PeersAreThoseThatCanBeReached) {
  EXPECT_THAT(CudaDevices()[0].peers, ElementsAre(1));
  EXPECT_THAT(CudaDevices()[1].peers, ElementsAre(0));
  software_gpu::SetPeerAccess(false);
  EXPECT_THAT(CudaDevices()[0].peers, IsEmpty());
}

// Of all calls that are counted these make no context; cudaMemGetInfo and
// cudaSetDevice would.
TEST_F(CudaDevicesTest, AskingMakesNoContextAndWaitsForNothing) {
  CudaDevices();
  CudaUuid(1);
  EXPECT_THAT(CudaUsable(), IsOk());
  for (const auto& [function, times] : software_gpu::TakeCalls()) {
    EXPECT_THAT(function, ::testing::AnyOf("cudaGetDeviceCount",
                                           "cudaGetDeviceProperties",
                                           "cudaDeviceCanAccessPeer"));
  }
  EXPECT_THAT(software_gpu::TakeSynchronisingCalls(), IsEmpty());
  int device = -1;
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 0);
}

TEST_F(CudaDevicesTest, ADriverThatIsTooOldIsSaidAndNoErrorIsLeftBehind) {
  software_gpu::FailCall("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  EXPECT_THAT(CudaUsable(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("update the driver")));
  software_gpu::FailCall("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  EXPECT_THAT(CudaDevices(), IsEmpty());
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(CudaDevicesTest, OtherErrorsAreSaidByTheirNames) {
  software_gpu::FailCall("cudaGetDeviceCount", 1, cudaErrorECCUncorrectable);
  EXPECT_THAT(CudaUsable(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("cudaErrorECCUncorrectable")));
}

TEST_F(CudaDevicesTest, ADeviceThatCannotBeAskedIsLeftOut) {
  software_gpu::FailCall("cudaGetDeviceProperties", 1,
                         cudaErrorECCUncorrectable);
  const std::vector<DeviceInfo> devices = CudaDevices();
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].id.index, 1);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// The environment counts when CUDA starts, so each takes a process.
std::string InProcessWith(const std::map<std::string, std::string>& variables) {
  for (const auto& [name, value] : variables) {
    setenv(name.c_str(), value.c_str(), 1);
  }
  auto child = ChildProcess::Start({"--devices"});
  for (const auto& [name, value] : variables) unsetenv(name.c_str());
  if (!child.ok()) return child.status().ToString();
  return child->ReadLine().value_or("no line");
}

// For the child: the devices, or why there are none.
int PrintDevices() {
  std::vector<std::string> lines;
  for (const DeviceInfo& device : CudaDevices()) {
    lines.push_back(absl::StrCat(ToString(device.id), " ", device.name, " ",
                                 device.uuid.substr(0, 4), " ",
                                 device.free_bytes >> 30, " GiB"));
  }
  WriteLine(lines.empty() ? std::string(CudaUsable().message())
                          : absl::StrJoin(lines, ", "));
  return 0;
}

TEST_F(CudaDevicesTest, OnlyThoseThatAreVisibleByNumberCountAndInThatOrder) {
  EXPECT_EQ(InProcessWith({{"CUDA_VISIBLE_DEVICES", "1"}}),
            "cuda:0 Software GPU 1 GPU- 4 GiB");
  EXPECT_EQ(
      InProcessWith({{"CUDA_VISIBLE_DEVICES", "1,0"}}),
      "cuda:0 Software GPU 1 GPU- 4 GiB, cuda:1 Software GPU 0 GPU- 4 GiB");
}

TEST_F(CudaDevicesTest, OnlyTheOneThatIsVisibleByUuidCounts) {
  EXPECT_EQ(InProcessWith({{"CUDA_VISIBLE_DEVICES", CudaUuid(1)}}),
            "cuda:0 Software GPU 1 GPU- 4 GiB");
}

TEST_F(CudaDevicesTest, AnInstanceOfAGpuHasItsOwnKindOfUuid) {
  const std::string instance = "MIG" + CudaUuid(1).substr(3);
  EXPECT_EQ(InProcessWith({{"SOFTWARE_GPU_UUID_PREFIX", "MIG"},
                           {"CUDA_VISIBLE_DEVICES", instance}}),
            "cuda:0 Software GPU 1 MIG- 4 GiB");
}

TEST_F(CudaDevicesTest, NoneVisibleIsSaidWithWhatHidesThem) {
  EXPECT_EQ(InProcessWith({{"CUDA_VISIBLE_DEVICES", "7"}}),
            "no GPU can be used: CUDA_VISIBLE_DEVICES=\"7\" leaves none");
  EXPECT_THAT(InProcessWith({{"SOFTWARE_GPU_DEVICES", "0"}}),
              StartsWith("no GPU can be used: the driver finds none"));
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--devices") == 0) {
    return tensorferry::PrintDevices();
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
