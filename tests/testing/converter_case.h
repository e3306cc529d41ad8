#ifndef TENSORFERRY_TESTS_TESTING_CONVERTER_CASE_H_
#define TENSORFERRY_TESTS_TESTING_CONVERTER_CASE_H_

#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "serialization/device_converter.h"

namespace tensorferry {
namespace testing {

// What the conformance suite has to know about the device type under test.
struct ConverterCase {
  const DeviceConverter* converter = nullptr;
  c10::Device device{c10::kCPU};
  c10::Stream stream{c10::Stream::DEFAULT, c10::Device(c10::kCPU)};
  // As which type tensorpipe carries its memory: "cpu" or "cuda".
  std::string carried_as = "cpu";

  // These wait until the device is done.
  // A storage that owns its memory and holds `bytes`.
  std::function<c10::Storage(const std::vector<char>& bytes)> make_storage;
  // The bytes at an address of the device, and writing them.
  std::function<std::vector<char>(const std::byte*, size_t)> read;
  std::function<void(std::byte*, const std::vector<char>&)> write;

  // Of a type with streams; what is about their order is skipped without.
  // A second stream of `device`, on which nothing waits for `stream`.
  std::optional<c10::Stream> other_stream;
  // Writes in the order of a stream, and returns at once if that is possible.
  std::function<void(std::byte*, const std::vector<char>&, c10::Stream)>
      enqueue_write;

  // Called after each test, when all that it made is gone; may be empty.
  std::function<void()> check;
};

// Written by the author of a converter, in the library that is the `case` of a
// ferry_converter_test (converter_test.bzl):
//
//   ConverterCase ConverterUnderTest() {
//     ConverterCase mine;
//     mine.converter = *ConverterRegistry::Global().Find(c10::kPrivateUse1);
//     ...
//     return mine;
//   }
ConverterCase ConverterUnderTest();

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_CONVERTER_CASE_H_
