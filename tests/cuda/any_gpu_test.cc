// What holds on any GPU, in software or not: it is found, says what it is, and
// tensors live on it.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cuda/devices.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::GpuTest;
using ::tensorferry::testing::kOnRealGpu;
using ::tensorferry::testing::OnDevice;
using ::tensorferry::testing::TwoGpuTest;
using ::tensorferry::testing::WriteLine;
using ::testing::AnyOf;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using AnyGpuTest = GpuTest;
using AnyTwoGpusTest = TwoGpuTest;

TEST_F(AnyGpuTest, EachSaysWhatItIs) {
  const std::vector<DeviceInfo> devices = CudaDevices();
  ASSERT_THAT(devices, Not(IsEmpty()));
  for (const DeviceInfo& device : devices) {
    EXPECT_THAT(device.name, Not(IsEmpty()));
    EXPECT_THAT(device.uuid, AnyOf(StartsWith("GPU-"), StartsWith("MIG-")));
    EXPECT_GT(device.free_bytes, 0u);
    EXPECT_LE(device.free_bytes, device.total_bytes);
    EXPECT_THAT(device.driver, Not(IsEmpty()));
    EXPECT_THAT(device.runtime, Not(IsEmpty()));
  }
}

// For the child: how many contexts there are once the devices were asked.
int CountContexts() {
  using Get = int (*)(int* device, int index);
  using State = int (*)(int device, unsigned* flags, int* active);
  const auto devices = static_cast<int>(CudaDevices().size());
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  const auto get = reinterpret_cast<Get>(dlsym(driver, "cuDeviceGet"));
  const auto state =
      reinterpret_cast<State>(dlsym(driver, "cuDevicePrimaryCtxGetState"));
  int contexts = 0;
  for (int index = 0; index < devices; ++index) {
    int device = 0, active = 0;
    unsigned flags = 0;
    if (get(&device, index) != 0 || state(device, &flags, &active) != 0) {
      return 1;
    }
    contexts += active;
  }
  WriteLine(absl::StrCat(contexts, " contexts"));
  return 0;
}

TEST_F(AnyGpuTest, AskingMakesNoContext) {
  if (!kOnRealGpu) GTEST_SKIP() << "no contexts; see devices_test";
  auto child = ChildProcess::Start({"--contexts"});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->ReadLine().value_or("no line"), "0 contexts");
}

TEST_F(AnyGpuTest, TensorsLiveOnIt) {
  const at::Tensor threes = at::full({1000}, 3, OnDevice(0));
  EXPECT_TRUE(threes.is_cuda());
  EXPECT_TRUE(threes.cpu().equal(at::full({1000}, 3, at::kFloat)));
}

TEST_F(AnyTwoGpusTest, TensorsGoFromOneToTheOther) {
  const at::Tensor host = at::arange(1000, at::kFloat);
  EXPECT_TRUE(host.to(OnDevice(0)).to(OnDevice(1)).cpu().equal(host));
}

TEST_F(AnyTwoGpusTest, PeersCanBeReached) {
  for (const DeviceInfo& device : CudaDevices()) {
    ASSERT_EQ(cudaSetDevice(device.id.index), cudaSuccess);
    for (int peer : device.peers) {
      EXPECT_THAT(cudaDeviceEnablePeerAccess(peer, 0),
                  AnyOf(cudaSuccess, cudaErrorPeerAccessAlreadyEnabled));
      cudaGetLastError();
    }
  }
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--contexts") == 0) {
    return tensorferry::CountContexts();
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
