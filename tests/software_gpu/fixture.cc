#include "tests/software_gpu/fixture.h"

#include <cuda_runtime_api.h>

namespace tensorferry::software_gpu {

void SoftwareGpuTest::SetUp() {
  SetSchedule({});
  TakeFindings();
  TakeCalls();
  TakeSynchronisingCalls();
  cudaGetLastError();
  resources_before_ = LiveResources();
}

void SoftwareGpuTest::TearDown() {
  ReleaseCalls();
  ReleaseCaches();
  int devices = 0;
  cudaGetDeviceCount(&devices);
  for (int device = 0; device < devices; ++device) {
    cudaSetDevice(device);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "device " << device;
  }
  cudaSetDevice(0);
  for (const Finding& finding : TakeFindings()) ADD_FAILURE() << finding;
  for (const auto& [id, text] : LiveResources()) {
    if (!resources_before_.contains(id)) ADD_FAILURE() << "leaked: " << text;
  }
}

std::vector<Finding::Kind> TakeKinds() {
  std::vector<Finding::Kind> kinds;
  for (const Finding& finding : TakeFindings()) kinds.push_back(finding.kind);
  return kinds;
}

}  // namespace tensorferry::software_gpu
