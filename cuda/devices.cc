#include "cuda/devices.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

std::string TextOf(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppend(
        &text, absl::Hex(static_cast<uint8_t>(uuid.bytes[i]), absl::kZeroPad2));
  }
  return text;
}

}  // namespace

absl::Status CudaUsable() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return absl::OkStatus();
  cudaGetLastError();  // forgotten, so that nobody else meets it
  return absl::FailedPreconditionError(absl::StrCat(
      "no GPU can be used: ",
      error == cudaSuccess ? "CUDA sees none" : cudaGetErrorString(error)));
}

std::string CudaUuid(int index) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
    cudaGetLastError();
    return "";
  }
  return TextOf(properties.uuid);
}

std::vector<DeviceInfo> CudaDevices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    DeviceInfo device;
    device.id = {"cuda", index};
    device.name = properties.name;
    device.uuid = TextOf(properties.uuid);
    device.total_bytes = properties.totalGlobalMem;
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace tensorferry
