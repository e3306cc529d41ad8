// What every DeviceConverter keeps to.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "base/carried_as.h"
#include "serialization/torch_types.h"
#include "tests/testing/converter_case.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::Contains;
using ::testing::Field;

class ConverterSuite : public ::testing::Test {
 protected:
  void SetUp() override { case_ = ConverterUnderTest(); }
  void TearDown() override {
    if (case_.check) case_.check();
  }

  const DeviceConverter& converter() const { return *case_.converter; }

  // Waits until all that is on `stream` now is over.
  absl::Status Reached(c10::Stream stream) const {
    struct Wait {
      absl::Notification came;
      absl::Status status;
    };
    auto wait = std::make_shared<Wait>();
    converter().WhenReached(stream, [wait](absl::Status status) {
      wait->status = std::move(status);
      wait->came.Notify();
    });
    if (!wait->came.WaitForNotificationWithTimeout(absl::Seconds(30))) {
      return absl::DeadlineExceededError("never reached");
    }
    return wait->status;
  }

  // A storage of the device, enqueued to hold `bytes` once `stream` has come
  // so far; its memory was allocated to be received into on that stream.
  c10::Storage Written(const std::vector<char>& bytes, c10::Stream stream) {
    absl::StatusOr<c10::DataPtr> memory = converter().AllocateToReceive(
        bytes.size(), case_.device, stream, nullptr);
    EXPECT_THAT(memory, IsOk());
    case_.enqueue_write(static_cast<std::byte*>(memory->get()), bytes, stream);
    return c10::Storage(c10::Storage::use_byte_size_t(), bytes.size(),
                        *std::move(memory), nullptr, false);
  }

  ConverterCase case_;
};

class ConverterStreamSuite : public ConverterSuite {
 protected:
  void SetUp() override {
    ConverterSuite::SetUp();
    if (!case_.other_stream) GTEST_SKIP() << "a type without streams";
  }

  c10::Stream stream() const { return case_.stream; }
  c10::Stream other() const { return *case_.other_stream; }
};

std::vector<char> Bytes(size_t n, char first = 1) {
  std::vector<char> bytes(n);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

const std::byte* DataOf(const c10::Storage& storage) {
  return static_cast<const std::byte*>(storage.data());
}

std::vector<char> OnHost(const c10::DataPtr& copy, size_t n) {
  const char* bytes = static_cast<const char*>(copy.get());
  return std::vector<char>(bytes, bytes + n);
}

TEST_F(ConverterSuite, PreparesTheRangeThatWasAskedFor) {
  std::vector<char> bytes = Bytes(256);
  c10::Storage storage = case_.make_storage(bytes);
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {32, 100}, case_.stream));
  ASSERT_EQ(ready.nbytes, 100u);
  EXPECT_EQ(case_.read(ready.data, 100),
            std::vector<char>(bytes.begin() + 32, bytes.begin() + 132));
}

TEST_F(ConverterSuite, DoesNotCopyMemoryThatHasAnOwner) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {0, 256}, case_.stream));
  EXPECT_EQ(static_cast<const void*>(ready.data), storage.data());
}

TEST_F(ConverterSuite, KeepsTheStorageAliveUntilTheSendIsOver) {
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

TEST_F(ConverterSuite, RefusesARangeOutsideTheStorage) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (ByteRange range :
       {ByteRange{0, 257}, ByteRange{256, 1}, ByteRange{257, 0},
        ByteRange{kMost, 2}, ByteRange{2, kMost}}) {
    EXPECT_THAT(converter().PrepareToSend(storage, range, case_.stream),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_F(ConverterSuite, PreparesAnEmptyRange) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  FERRY_ASSERT_OK_AND_ASSIGN(
      SendBuffer ready,
      converter().PrepareToSend(storage, {256, 0}, case_.stream));
  EXPECT_EQ(ready.nbytes, 0u);
}

TEST_F(ConverterSuite, AllocatesMemoryOfTheDeviceThatCanBeWritten) {
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

TEST_F(ConverterSuite, AllocatesNothingForNothing) {
  EXPECT_THAT(
      converter().AllocateToReceive(0, case_.device, case_.stream, nullptr),
      IsOk());
}

TEST_F(ConverterSuite, SaysWhenThereIsNotEnoughMemory) {
  EXPECT_THAT(converter().AllocateToReceive(uint64_t{1} << 50, case_.device,
                                            case_.stream, nullptr),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ConverterSuite, CarriesMemoryAsABufferOfItsDevice) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  auto* data = static_cast<std::byte*>(storage.mutable_data());
  tensorpipe::Device carried =
      converter().CarriedBuffer(data, case_.stream).device();
  const DeviceId device = DeviceIdOf(case_.device);
  EXPECT_EQ(carried.type, case_.carried_as);
  // What the peer is told.
  CarriedDevices told;
  for (const DeviceInfo& info : converter().Devices()) {
    if (info.carried_as) told[info.id] = *info.carried_as;
  }
  EXPECT_EQ((DeviceId{carried.type, static_cast<int>(carried.index)}),
            CarriedAs(device, told));
}

TEST_F(ConverterSuite, ListsTheDevice) {
  EXPECT_THAT(converter().Devices(),
              Contains(Field(&DeviceInfo::id, DeviceIdOf(case_.device))));
}

TEST_F(ConverterSuite, RunsWhatWaitsForAStreamOnce) {
  for (int i = 0; i < 3; ++i) EXPECT_THAT(Reached(case_.stream), IsOk());
}

TEST_F(ConverterSuite, OrdersAStreamAfterItself) {
  EXPECT_THAT(converter().Order(case_.stream, case_.stream), IsOk());
}

// A type that does not has no digests of its tensors.
TEST_F(ConverterSuite, CopiesToTheHostOrSaysThatItDoesNot) {
  c10::Storage storage = case_.make_storage(Bytes(300));
  absl::StatusOr<c10::DataPtr> copy =
      converter().CopyToHost(DataOf(storage) + 100, 200, case_.stream);
  if (!copy.ok()) {
    EXPECT_THAT(copy, StatusIs(absl::StatusCode::kUnimplemented));
    return;
  }
  EXPECT_TRUE(copy->device().is_cpu());
  ASSERT_THAT(Reached(case_.stream), IsOk());
  EXPECT_EQ(OnHost(*copy, 200), Bytes(200, 101));
  EXPECT_THAT(converter().CopyToHost(nullptr, 0, case_.stream), IsOk());
}

// A type that does not has no way through host memory.
TEST_F(ConverterSuite, CopiesFromTheHostOrSaysThatItDoesNot) {
  c10::Storage storage = case_.make_storage(Bytes(300));
  auto* data = static_cast<std::byte*>(storage.mutable_data());
  absl::StatusOr<c10::DataPtr> memory =
      converter().HostMemory(200, case_.device);
  if (!memory.ok()) {
    EXPECT_THAT(memory, StatusIs(absl::StatusCode::kUnimplemented));
    EXPECT_THAT(converter().CopyFromHost(c10::DataPtr(), 0, data, case_.stream),
                StatusIs(absl::StatusCode::kUnimplemented));
    return;
  }
  EXPECT_TRUE(memory->device().is_cpu());
  const std::vector<char> bytes = Bytes(200, 50);
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(memory->get()));
  ASSERT_THAT(converter().CopyFromHost(*std::move(memory), 200, data + 100,
                                       case_.stream),
              IsOk());
  ASSERT_THAT(Reached(case_.stream), IsOk());
  EXPECT_EQ(case_.read(data, 100), Bytes(100));
  EXPECT_EQ(case_.read(data + 100, 200), bytes);
  EXPECT_THAT(converter().HostMemory(0, case_.device), IsOk());
  EXPECT_THAT(converter().CopyFromHost({}, 0, nullptr, case_.stream), IsOk());
}

TEST_F(ConverterStreamSuite, CopiesToTheHostInTheOrderOfTheStream) {
  c10::Storage storage = Written(Bytes(256), stream());
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy,
      converter().CopyToHost(DataOf(storage), 256, stream()));
  ASSERT_THAT(Reached(stream()), IsOk());
  EXPECT_EQ(OnHost(copy, 256), Bytes(256));
}

TEST_F(ConverterStreamSuite, OrdersOneStreamAfterAnother) {
  c10::Storage storage = Written(Bytes(256), stream());
  ASSERT_THAT(converter().Order(stream(), other()), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy, converter().CopyToHost(DataOf(storage), 256, other()));
  ASSERT_THAT(Reached(other()), IsOk());
  EXPECT_EQ(OnHost(copy, 256), Bytes(256));
}

// The memory is not given to anybody else before.
TEST_F(ConverterStreamSuite, KeepsTheBytesForWhatIsOnTheCarryingStream) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  c10::DataPtr copy;
  {
    FERRY_ASSERT_OK_AND_ASSIGN(
        SendBuffer ready,
        converter().PrepareToSend(storage, {0, 256}, stream()));
    FERRY_ASSERT_OK_AND_ASSIGN(
        copy, converter().CopyToHost(ready.data, 256, stream()));
    storage = c10::Storage();
  }
  c10::Storage next = case_.make_storage(Bytes(256, 50));
  ASSERT_THAT(Reached(stream()), IsOk());
  EXPECT_EQ(OnHost(copy, 256), Bytes(256));
}

TEST_F(ConverterStreamSuite, AllocatesWhatMayBeWrittenOnTheReceivingStream) {
  c10::DataPtr copy;
  {
    c10::Storage storage = Written(Bytes(256), stream());
    FERRY_ASSERT_OK_AND_ASSIGN(
        copy, converter().CopyToHost(DataOf(storage), 256, stream()));
  }
  c10::Storage next = Written(Bytes(256, 50), other());
  ASSERT_THAT(Reached(other()), IsOk());
  EXPECT_EQ(case_.read(DataOf(next), 256), Bytes(256, 50));
  ASSERT_THAT(Reached(stream()), IsOk());
  EXPECT_EQ(OnHost(copy, 256), Bytes(256));
}

TEST_F(ConverterStreamSuite, ACopyThatIsDroppedDoesNotEndInAnother) {
  c10::Storage storage = case_.make_storage(Bytes(256));
  c10::Storage wanted = case_.make_storage(Bytes(256, 50));
  ASSERT_THAT(converter().CopyToHost(DataOf(storage), 256, stream()), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      c10::DataPtr copy, converter().CopyToHost(DataOf(wanted), 256, other()));
  ASSERT_THAT(Reached(other()), IsOk());
  ASSERT_THAT(Reached(stream()), IsOk());
  EXPECT_EQ(OnHost(copy, 256), Bytes(256, 50));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
