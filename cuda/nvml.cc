#include "cuda/nvml.h"

#include <dlfcn.h>

#include <type_traits>

namespace tensorferry {
namespace {

constexpr int kSuccess = 0;

// As in nvml.h, which is not among the headers of the CUDA runtime.
using Device = void*;  // nvmlDevice_t
struct Memory {        // nvmlMemory_t
  unsigned long long total, free, used;
};

class Nvml {
 public:
  // Opened at the first call and never closed: opening takes milliseconds.
  static const Nvml& Get() {
    static const Nvml* const nvml = new Nvml;
    return *nvml;
  }

  bool Find(const std::string& uuid, Device* device) const {
    return usable_ && find_(uuid.c_str(), device) == kSuccess;
  }
  bool Read(Device device, Memory* memory) const {
    return memory_(device, memory) == kSuccess;
  }

 private:
  Nvml() {
    void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    int (*init)() = nullptr;
    const auto take = [library](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
          dlsym(library, name));
      return function != nullptr;
    };
    usable_ = take("nvmlInit_v2", init) &&
              take("nvmlDeviceGetHandleByUUID", find_) &&
              take("nvmlDeviceGetMemoryInfo", memory_) && init() == kSuccess;
  }

  bool usable_ = false;
  int (*find_)(const char* uuid, Device* device) = nullptr;
  int (*memory_)(Device device, Memory* memory) = nullptr;
};

}  // namespace

bool NvmlKnows(const std::string& uuid) {
  Device device;
  return Nvml::Get().Find(uuid, &device);
}

uint64_t NvmlFreeBytes(const std::string& uuid) {
  Device device;
  Memory memory;
  const Nvml& nvml = Nvml::Get();
  if (!nvml.Find(uuid, &device) || !nvml.Read(device, &memory)) return 0;
  return memory.free;
}

}  // namespace tensorferry
