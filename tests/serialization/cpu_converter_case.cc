#include <c10/core/CPUAllocator.h>

#include <cstring>
#include <vector>

#include "serialization/converter_registry.h"
#include "tests/testing/converter_case.h"

namespace tensorferry {
namespace testing {

ConverterCase ConverterUnderTest() {
  ConverterCase cpu;
  cpu.converter = *ConverterRegistry::Global().Find(c10::kCPU);
  cpu.make_storage = [](const std::vector<char>& bytes) {
    c10::Storage storage(c10::Storage::use_byte_size_t(), bytes.size(),
                         c10::GetCPUAllocator());
    std::memcpy(storage.mutable_data(), bytes.data(), bytes.size());
    return storage;
  };
  cpu.read = [](const std::byte* data, size_t n) {
    const char* bytes = reinterpret_cast<const char*>(data);
    return std::vector<char>(bytes, bytes + n);
  };
  cpu.write = [](std::byte* data, const std::vector<char>& bytes) {
    std::memcpy(data, bytes.data(), bytes.size());
  };
  return cpu;
}

}  // namespace testing
}  // namespace tensorferry
