#ifndef TENSORFERRY_TESTS_TESTING_CONVERTER_SUITE_H_
#define TENSORFERRY_TESTS_TESTING_CONVERTER_SUITE_H_

#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serialization/device_converter.h"

namespace tensorferry {
namespace testing {

// What the suite has to know about the device type under test. All functions
// wait until the device is done.
struct ConverterCase {
  std::string name;
  const DeviceConverter* converter = nullptr;
  c10::Device device{c10::kCPU};
  c10::Stream stream{c10::Stream::DEFAULT, c10::Device(c10::kCPU)};
  // A storage that owns its memory and holds `bytes`.
  std::function<c10::Storage(const std::vector<char>& bytes)> make_storage;
  // The bytes at an address of the device, and writing them.
  std::function<std::vector<char>(const std::byte*, size_t)> read;
  std::function<void(std::byte*, const std::vector<char>&)> write;
};

// What every DeviceConverter keeps to. The author of one writes:
//
//   INSTANTIATE_TEST_SUITE_P(Cuda, ConverterSuite,
//                            ::testing::Values(&CudaCase));
class ConverterSuite
    : public ::testing::TestWithParam<std::function<ConverterCase()>> {
 protected:
  void SetUp() override { case_ = GetParam()(); }
  const DeviceConverter& converter() const { return *case_.converter; }

  ConverterCase case_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_CONVERTER_SUITE_H_
