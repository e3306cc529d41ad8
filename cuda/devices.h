#ifndef TENSORFERRY_CUDA_DEVICES_H_
#define TENSORFERRY_CUDA_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/device_id.h"

namespace tensorferry {

// The GPUs, and MIG instances, that this process may use: in CUDA's order and
// as CUDA_VISIBLE_DEVICES leaves them. Nothing here makes a context on any of
// them, which would cost its memory; so what is free is known only where NVML
// is. Empty: none, and CudaUsable says why. Any thread.
std::vector<DeviceInfo> CudaDevices();

// The device's UUID as nvidia-smi writes it, "GPU-..." or "MIG-..." (without
// NVML always the former); empty: there is no such device.
std::string CudaUuid(int index);

// What the device had in all when CudaDevices last saw it; 0: it has not. Asks
// nobody.
uint64_t CudaTotalBytes(int index);

// What is free on the device, as NVML says now; 0: CudaDevices has not seen it,
// or there is no NVML. Makes no call of CUDA's.
uint64_t CudaFreeBytes(int index);

// FAILED_PRECONDITION: no driver, one that is too old, or no GPU; says which
// and what to do.
absl::Status CudaUsable();

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_DEVICES_H_
