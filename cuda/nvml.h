#ifndef TENSORFERRY_CUDA_NVML_H_
#define TENSORFERRY_CUDA_NVML_H_

#include <cstdint>
#include <string>

// Internal to cuda/: what NVIDIA's management library says of a GPU, or of a
// MIG instance, by its UUID ("GPU-...", "MIG-..."). Unlike CUDA it tells how
// much memory is free without making a context. It comes with the driver and
// may be missing. Any thread.
namespace tensorferry {

// False: no such device, or no library.
bool NvmlKnows(const std::string& uuid);

// 0 when unknown.
uint64_t NvmlFreeBytes(const std::string& uuid);

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_NVML_H_
