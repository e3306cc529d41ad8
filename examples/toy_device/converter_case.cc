// What the conformance test has to know about the toy device.
#include "tests/testing/converter_case.h"

#include <c10/core/Allocator.h>

#include <cstring>
#include <vector>

#include "examples/toy_device/toy_device.h"
#include "serialization/converter_registry.h"

namespace tensorferry {
namespace testing {

ConverterCase ConverterUnderTest() {
  ConverterCase mine;
  mine.converter = *ConverterRegistry::Global().Find(::toy::kDevice.type());
  mine.device = ::toy::kDevice;
  mine.stream = c10::Stream(c10::Stream::DEFAULT, ::toy::kDevice);
  mine.make_storage = [](const std::vector<char>& bytes) {
    c10::Storage storage(c10::Storage::use_byte_size_t(), bytes.size(),
                         c10::GetAllocator(::toy::kDevice.type()));
    std::memcpy(storage.mutable_data(), bytes.data(), bytes.size());
    return storage;
  };
  mine.read = [](const std::byte* data, size_t n) {
    const char* bytes = reinterpret_cast<const char*>(data);
    return std::vector<char>(bytes, bytes + n);
  };
  mine.write = [](std::byte* data, const std::vector<char>& bytes) {
    std::memcpy(data, bytes.data(), bytes.size());
  };
  return mine;
}

}  // namespace testing
}  // namespace tensorferry
