// Kernels: which there are, and what becomes of their launches.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <stdlib.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/software_gpu/api_call.h"
#include "tests/software_gpu/kernels.h"
#include "tests/software_gpu/machine.h"

namespace tensorferry::software_gpu {
namespace {

// Host function of a kernel -> its mangled name. Filled while libraries load.
struct KernelNames {
  std::mutex mutex;
  std::map<const void*, const char*> names;
};

KernelNames& TheKernelNames() {
  static auto* names = new KernelNames;
  return *names;
}

std::string Demangled(const char* name) {
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, nullptr);
  const std::string demangled = text ? text : name;
  free(text);
  return demangled;
}

std::string NameOf(const void* host_function) {
  KernelNames& known = TheKernelNames();
  std::lock_guard<std::mutex> lock(known.mutex);
  auto found = known.names.find(host_function);
  return found == known.names.end() ? "unknown" : Demangled(found->second);
}

cudaError_t LaunchKernel(const char* function, const void* kernel,
                         void** arguments, cudaStream_t handle) {
  return CallApi(function, [&](ApiCall& call) {
    Stream* stream = call.machine.Find(handle, call.device);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const std::string name = NameOf(kernel);
    std::optional<KernelLaunch> launch = FindKernel(name, arguments);
    if (!launch) {
      call.machine.Report(Finding::Kind::kKernel, name);
      return cudaErrorNotSupported;
    }
    return EnqueueKernel(call, *stream, std::move(*launch));
  });
}

// What <<<...>>> leaves for the function that stands for the kernel.
struct Configuration {
  dim3 grid;
  dim3 block;
  size_t shared_memory;
  void* stream;
};
thread_local std::vector<Configuration> configurations;

// In the place of driver functions that are not modelled.
int NotSupported() { return CUDA_ERROR_NOT_SUPPORTED; }

}  // namespace
}  // namespace tensorferry::software_gpu

using namespace tensorferry::software_gpu;  // NOLINT: CUDA's names are global

cudaError_t cudaLaunchKernel(const void* kernel, dim3, dim3, void** arguments,
                             size_t, cudaStream_t stream) {
  return LaunchKernel("cudaLaunchKernel", kernel, arguments, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* configuration,
                                const void* kernel, void** arguments) {
  return LaunchKernel("cudaLaunchKernelExC", kernel, arguments,
                      configuration->stream);
}

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3, dim3,
                                        void** arguments, size_t,
                                        cudaStream_t stream) {
  return LaunchKernel("cudaLaunchCooperativeKernel", kernel, arguments, stream);
}

// The driver's functions, which libtorch asks for by name.
cudaError_t cudaGetDriverEntryPointByVersion(
    const char* name, void** function, unsigned /*version*/,
    unsigned long long /*flags*/,  // NOLINT: CUDA's type
    cudaDriverEntryPointQueryResult* result) {
  static void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  *function = driver ? dlsym(driver, name) : nullptr;
  if (!*function && driver) {
    *function = dlsym(driver, (std::string(name) + "_v2").c_str());
  }
  if (!*function) *function = reinterpret_cast<void*>(NotSupported);
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// What the compiler of CUDA calls from the code that it makes.
extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* host_function, char*,
                            const char* name, int, void*, void*, void*, void*,
                            int*) {
  KernelNames& known = TheKernelNames();
  std::lock_guard<std::mutex> lock(known.mutex);
  known.names[host_function] = name;
}

void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int,
                       int) {}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block,
                                     size_t shared_memory, void* stream) {
  configurations.push_back({grid, block, shared_memory, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block,
                                       size_t* shared_memory, void* stream) {
  if (configurations.empty()) return cudaErrorInvalidConfiguration;
  const Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_memory = last.shared_memory;
  *static_cast<void**>(stream) = last.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3,
                               void** arguments, size_t, cudaStream_t stream) {
  return LaunchKernel("__cudaLaunchKernel", kernel, arguments, stream);
}

}  // extern "C"
