#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "serialization/converter_registry.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

const DeviceConverter& Cpu() {
  return **ConverterRegistry::Global().Find(c10::kCPU);
}

const c10::Stream kStream(c10::Stream::DEFAULT, c10::Device(c10::kCPU));

TEST(CpuConverterTest, CopiesTheRangeOfMemoryThatNobodyOwns) {
  std::string memory = "0123456789";
  c10::Storage storage(c10::Storage::use_byte_size_t(), memory.size(),
                       c10::DataPtr(memory.data(), c10::Device(c10::kCPU)),
                       nullptr, false);
  FERRY_ASSERT_OK_AND_ASSIGN(SendBuffer ready,
                             Cpu().PrepareToSend(storage, {3, 4}, kStream));
  memory = "**********";
  EXPECT_EQ(std::memcmp(ready.data, "3456", 4), 0);
}

TEST(CpuConverterTest, RefusesAStorageWithoutMemory) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), 64,
                       c10::DataPtr(nullptr, c10::Device(c10::kCPU)), nullptr,
                       false);
  EXPECT_THAT(Cpu().PrepareToSend(storage, {0, 4}, kStream),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("64 bytes")));
  EXPECT_THAT(Cpu().PrepareToSend(storage, {0, 0}, kStream), testing::IsOk());
}

// Hands out the same block each time, and remembers what was asked for.
class OneBlock : public BufferSource {
 public:
  absl::StatusOr<c10::DataPtr> Take(size_t nbytes, size_t align) override {
    if (nbytes > sizeof(block_)) return absl::ResourceExhaustedError("full");
    taken = nbytes;
    alignment = align;
    return c10::DataPtr(block_, c10::Device(c10::kCPU));
  }
  void* block() { return block_; }

  size_t taken = 0, alignment = 0;

 private:
  alignas(64) char block_[128];
};

TEST(CpuConverterTest, TakesMemoryFromASource) {
  OneBlock source;
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr memory,
      Cpu().AllocateToReceive(100, c10::Device(c10::kCPU), kStream, &source));
  EXPECT_EQ(memory.get(), source.block());
  EXPECT_EQ(source.taken, 100u);
  EXPECT_EQ(source.alignment, 64u);
  EXPECT_THAT(
      Cpu().AllocateToReceive(1000, c10::Device(c10::kCPU), kStream, &source),
      testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace tensorferry
