#include "tests/software_gpu/fixture.h"

#include <cuda_runtime_api.h>

#include <sstream>

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
  for (const std::string& fault : TakeFaults(resources_before_)) {
    ADD_FAILURE() << fault;
  }
}

std::vector<std::string> TakeFaults(
    const std::map<uint64_t, std::string>& before) {
  std::vector<std::string> faults;
  int devices = 0;
  cudaGetDeviceCount(&devices);
  for (int device = 0; device < devices; ++device) {
    cudaSetDevice(device);
    const cudaError_t error = cudaDeviceSynchronize();
    if (error == cudaSuccess) continue;
    faults.push_back("device " + std::to_string(device) + ": " +
                     cudaGetErrorName(error));
  }
  cudaSetDevice(0);
  for (const Finding& finding : TakeFindings()) {
    std::ostringstream text;
    text << finding;
    faults.push_back(text.str());
  }
  for (const auto& [id, text] : LiveResources()) {
    if (!before.contains(id)) faults.push_back("leaked: " + text);
  }
  return faults;
}

std::vector<Finding::Kind> TakeKinds() {
  std::vector<Finding::Kind> kinds;
  for (const Finding& finding : TakeFindings()) kinds.push_back(finding.kind);
  return kinds;
}

}  // namespace tensorferry::software_gpu
