#include "cuda/devices.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cuda/nvml.h"

namespace tensorferry {
namespace {

// An error is forgotten, so that nobody else meets it.
bool Succeeded(cudaError_t error) {
  if (error != cudaSuccess) cudaGetLastError();
  return error == cudaSuccess;
}

// 13020 is 13.2; empty: there is no driver.
std::string VersionText(int version) {
  if (version == 0) return "";
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

std::string DriverVersion() {
  int version = 0;
  Succeeded(cudaDriverGetVersion(&version));
  return VersionText(version);
}

std::string RuntimeVersion() {
  int version = 0;
  Succeeded(cudaRuntimeGetVersion(&version));
  return VersionText(version);
}

// CUDA does not say which of the two kinds it is.
std::string TextOf(const cudaUUID_t& uuid) {
  std::string text;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppend(
        &text, absl::Hex(static_cast<uint8_t>(uuid.bytes[i]), absl::kZeroPad2));
  }
  const std::string gpu = "GPU-" + text, instance = "MIG-" + text;
  return !NvmlKnows(gpu) && NvmlKnows(instance) ? instance : gpu;
}

std::vector<int> PeersOf(int index, int count) {
  std::vector<int> peers;
  for (int peer = 0; peer < count; ++peer) {
    int possible = 0;
    if (peer != index &&
        Succeeded(cudaDeviceCanAccessPeer(&possible, index, peer)) &&
        possible) {
      peers.push_back(peer);
    }
  }
  return peers;
}

std::string WhyNone(cudaError_t error) {
  if (error == cudaErrorInsufficientDriver) {
    const std::string driver = DriverVersion();
    if (driver.empty()) {
      return "there is no NVIDIA driver (libcuda.so.1): install it, or pass "
             "the host's into the container";
    }
    return absl::StrCat("the NVIDIA driver is for CUDA ", driver,
                        " and this program for ", RuntimeVersion(),
                        ": update the driver");
  }
  if (error != cudaSuccess && error != cudaErrorNoDevice) {
    return absl::StrCat(cudaGetErrorName(error), ", ",
                        cudaGetErrorString(error), ": see `nvidia-smi`");
  }
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    return absl::StrCat("CUDA_VISIBLE_DEVICES=\"", visible, "\" leaves none");
  }
  return "the driver finds none: see `nvidia-smi`; pass it into the container";
}

// Devices as CudaDevices saw them last.
class SeenDevices {
 public:
  static SeenDevices& Get() {
    static auto* const seen = new SeenDevices;
    return *seen;
  }

  void Add(const DeviceInfo& device) {
    absl::MutexLock lock(&mu_);
    devices_[device.id.index] = {device.total_bytes, device.uuid};
  }
  // 0, and empty: it has not been seen.
  uint64_t TotalBytes(int index) {
    absl::MutexLock lock(&mu_);
    const auto found = devices_.find(index);
    return found == devices_.end() ? 0 : found->second.total_bytes;
  }
  std::string Uuid(int index) {
    absl::MutexLock lock(&mu_);
    const auto found = devices_.find(index);
    return found == devices_.end() ? "" : found->second.uuid;
  }

 private:
  struct Seen {
    uint64_t total_bytes = 0;
    std::string uuid;
  };
  absl::Mutex mu_;
  std::map<int, Seen> devices_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::Status CudaUsable() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (Succeeded(error) && count > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("no GPU can be used: ", WhyNone(error)));
}

std::string CudaUuid(int index) {
  cudaDeviceProp properties;
  if (!Succeeded(cudaGetDeviceProperties(&properties, index))) return "";
  return TextOf(properties.uuid);
}

uint64_t CudaTotalBytes(int index) {
  return SeenDevices::Get().TotalBytes(index);
}

uint64_t CudaFreeBytes(int index) {
  const std::string uuid = SeenDevices::Get().Uuid(index);
  return uuid.empty() ? 0 : NvmlFreeBytes(uuid);
}

std::vector<DeviceInfo> CudaDevices() {
  int count = 0;
  if (!Succeeded(cudaGetDeviceCount(&count))) return {};
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (!Succeeded(cudaGetDeviceProperties(&properties, index))) continue;
    DeviceInfo device;
    device.id = {"cuda", index};
    device.name = properties.name;
    device.uuid = TextOf(properties.uuid);
    device.total_bytes = properties.totalGlobalMem;
    device.free_bytes = NvmlFreeBytes(device.uuid);
    device.peers = PeersOf(index, count);
    device.driver = DriverVersion();
    device.runtime = RuntimeVersion();
    SeenDevices::Get().Add(device);
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace tensorferry
