#include "serialization/converter_registry.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serialization/allocate.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::MessageOf;
using testing::StatusIs;

// Does nothing but be told apart.
class NamedConverter : public DeviceConverter {
 public:
  explicit NamedConverter(std::string name = "x", DeviceId id = {})
      : name_(std::move(name)), id_(std::move(id)) {}
  absl::StatusOr<SendBuffer> PrepareToSend(const c10::Storage&, ByteRange,
                                           c10::Stream) const override {
    return absl::UnimplementedError(name_);
  }
  absl::StatusOr<c10::DataPtr> AllocateToReceive(uint64_t, c10::Device,
                                                 c10::Stream,
                                                 BufferSource*) const override {
    return absl::UnimplementedError(name_);
  }
  tensorpipe::Buffer CarriedBuffer(std::byte*, c10::Stream) const override {
    return {};
  }
  std::vector<DeviceInfo> Devices() const override {
    DeviceInfo info;
    info.id = id_;
    info.name = name_;
    return {info};
  }

 private:
  std::string name_;
  DeviceId id_;
};

// Copies to the host, but not from it.
class HalfConverter : public NamedConverter {
 public:
  HalfConverter() : NamedConverter("half", {"cuda", 1}) {}
  absl::StatusOr<c10::DataPtr> CopyToHost(const std::byte*, uint64_t,
                                          c10::Stream) const override {
    return c10::DataPtr(nullptr, c10::Device(c10::kCPU));
  }
};

TEST(ConverterRegistryTest, HasTheCpusWhenLinked) {
  EXPECT_THAT(ConverterRegistry::Global().Find(c10::kCPU), IsOk());
}

TEST(ConverterRegistryTest, RefusesASecondConverterAndKeepsTheFirst) {
  ConverterRegistry registry;
  EXPECT_THAT(
      registry.Register(c10::kCUDA, std::make_unique<NamedConverter>("first")),
      IsOk());
  EXPECT_THAT(
      registry.Register(c10::kCUDA, std::make_unique<NamedConverter>("second")),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("cuda")));
  ASSERT_EQ(registry.Devices().size(), 1u);
  EXPECT_EQ(registry.Devices()[0].name, "first");
}

TEST(ConverterRegistryTest, NamesTheTypeThatHasNone) {
  ConverterRegistry registry;
  EXPECT_THAT(registry.Find(c10::kXPU),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("xpu")));
}

TEST(ConverterRegistryTest, SaysWhatAGpusConverterLacksToGoThroughTheHost) {
  ConverterRegistry registry;
  ASSERT_THAT(registry.Register(c10::kCPU, std::make_unique<NamedConverter>()),
              IsOk());
  ASSERT_THAT(registry.Register(c10::kCUDA, std::make_unique<HalfConverter>()),
              IsOk());
  const std::vector<DeviceInfo> devices = registry.Devices();
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].not_through_host, "");
  EXPECT_EQ(devices[1].not_through_host,
            "the converter of cuda has no HostMemory, CopyFromHost");
}

TEST(ConverterRegistryTest, CanBePassedInsteadOfTheGlobalOne) {
  ConverterRegistry registry;
  ASSERT_THAT(
      registry.Register(c10::kCPU, std::make_unique<NamedConverter>("passed")),
      IsOk());
  SerializeOptions options;
  options.converters = &registry;
  EXPECT_THAT(Serialize(MessageOf({at::ones({2})}), options),
              StatusIs(absl::StatusCode::kUnimplemented, "passed"));
  AllocateOptions receive;
  receive.converters = &registry;
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({at::ones({2})}), {}));
  EXPECT_THAT(Allocate(sent.manifest(), receive),
              StatusIs(absl::StatusCode::kUnimplemented, "passed"));
}

TEST(ConverterRegistrarDeathTest, EndsTheProcessOnASecondRegistration) {
  EXPECT_DEATH(
      ConverterRegistrar(c10::kCPU, std::make_unique<NamedConverter>()),
      "cpu has a converter");
}

TEST(StreamForDeviceTest, KnowsTheCpuWithoutAnyAndNamesWhatIsMissing) {
  FERRY_ASSERT_OK_AND_ASSIGN(c10::Stream cpu,
                             StreamForDevice({}, c10::Device(c10::kCPU)));
  EXPECT_TRUE(cpu.device().is_cpu());
  c10::Stream stream(c10::Stream::DEFAULT, c10::Device(c10::kCUDA, 1));
  EXPECT_THAT(StreamForDevice({stream}, c10::Device(c10::kCUDA, 1)),
              testing::IsOkAndHolds(stream));
  EXPECT_THAT(
      StreamForDevice({stream}, c10::Device(c10::kCUDA, 0)),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cuda:0")));
}

}  // namespace
}  // namespace tensorferry
