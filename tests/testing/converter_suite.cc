#include "tests/testing/converter_suite.h"

#include <gmock/gmock.h>

#include <limits>
#include <numeric>

#include "serialization/torch_types.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::Contains;
using ::testing::Field;

// The devices of one type may be instantiated nowhere in a binary.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ConverterSuite);

std::vector<char> Bytes(size_t n) {
  std::vector<char> bytes(n);
  std::iota(bytes.begin(), bytes.end(), 1);
  return bytes;
}

TEST_P(ConverterSuite, PreparesTheRangeThatWasAskedFor) {
  std::vector<char> bytes = Bytes(256);
  c10::Storage storage = case_.make_storage(bytes);
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {32, 100}, case_.stream));
  ASSERT_EQ(ready.nbytes, 100u);
  EXPECT_EQ(case_.read(ready.data, 100),
            std::vector<char>(bytes.begin() + 32, bytes.begin() + 132));
}

TEST_P(ConverterSuite, DoesNotCopyMemoryThatHasAnOwner) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {0, 256}, case_.stream));
  EXPECT_EQ(static_cast<const void*>(ready.data), storage.data());
}

TEST_P(ConverterSuite, KeepsTheStorageAliveUntilTheSendIsOver) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  c10::weak_intrusive_ptr<c10::StorageImpl> watch(
      c10::intrusive_ptr<c10::StorageImpl>(
          c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(
              storage.unsafeGetStorageImpl())));
  {
    FERRY_ASSERT_OK_AND_ASSIGN(
        SendBuffer ready,
        converter().PrepareToSend(storage, {0, 256}, case_.stream));
    storage = c10::Storage();
    SendBuffer moved = std::move(ready);
    EXPECT_FALSE(watch.expired());
    EXPECT_EQ(case_.read(moved.data, 256), Bytes(256));
  }
  EXPECT_TRUE(watch.expired());
}

TEST_P(ConverterSuite, RefusesARangeOutsideTheStorage) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (ByteRange range :
       {ByteRange{0, 257}, ByteRange{256, 1}, ByteRange{257, 0},
        ByteRange{kMost, 2}, ByteRange{2, kMost}}) {
    EXPECT_THAT(converter().PrepareToSend(storage, range, case_.stream),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_P(ConverterSuite, PreparesAnEmptyRange) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {256, 0}, case_.stream));
  EXPECT_EQ(ready.nbytes, 0u);
}

TEST_P(ConverterSuite, AllocatesMemoryOfTheDeviceThatCanBeWritten) {
  for (size_t nbytes : {1, 63, 64, 1 << 20}) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        c10::DataPtr memory, converter().AllocateToReceive(
                                 nbytes, case_.device, case_.stream, nullptr));
    ASSERT_NE(memory.get(), nullptr);
    EXPECT_EQ(memory.device(), case_.device);
    EXPECT_NE(memory.get_context(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.get()) % 64, 0u);
    auto* data = static_cast<std::byte*>(memory.get());
    case_.write(data, Bytes(nbytes));
    EXPECT_EQ(case_.read(data, nbytes), Bytes(nbytes));
  }
}

TEST_P(ConverterSuite, AllocatesNothingForNothing) {
  EXPECT_THAT(
      converter().AllocateToReceive(0, case_.device, case_.stream, nullptr),
      IsOk());
}

TEST_P(ConverterSuite, SaysWhenThereIsNotEnoughMemory) {
  EXPECT_THAT(converter().AllocateToReceive(uint64_t{1} << 50, case_.device,
                                            case_.stream, nullptr),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_P(ConverterSuite, CarriesMemoryAsABufferOfItsDevice) {
  std::byte* data = reinterpret_cast<std::byte*>(uintptr_t{64});
  tensorpipe::Device carried =
      converter().CarriedBuffer(data, case_.stream).device();
  DeviceId device = DeviceIdOf(case_.device);
  EXPECT_EQ(carried.type, device.type);
  EXPECT_EQ(carried.index, device.index);
}

TEST_P(ConverterSuite, ListsTheDevice) {
  EXPECT_THAT(converter().Devices(),
              Contains(Field(&DeviceInfo::id, DeviceIdOf(case_.device))));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
