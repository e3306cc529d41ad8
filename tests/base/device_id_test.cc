#include "base/device_id.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

TEST(DeviceIdTest, ReadsTypeAndIndex) {
  EXPECT_THAT(ParseDeviceId("cpu"), IsOkAndHolds(DeviceId{"cpu", 0}));
  EXPECT_THAT(ParseDeviceId("cpu:0"), IsOkAndHolds(DeviceId{"cpu", 0}));
  EXPECT_THAT(ParseDeviceId("cuda"), IsOkAndHolds(DeviceId{"cuda", 0}));
  EXPECT_THAT(ParseDeviceId("cuda:7"), IsOkAndHolds(DeviceId{"cuda", 7}));
  EXPECT_THAT(ParseDeviceId("my_npu2:127"),
              IsOkAndHolds(DeviceId{"my_npu2", 127}));
}

TEST(DeviceIdTest, WritesWhatItReads) {
  for (const char* text : {"cpu", "cuda:0", "cuda:12", "xpu:3"}) {
    FERRY_ASSERT_OK_AND_ASSIGN(DeviceId device, ParseDeviceId(text));
    EXPECT_EQ(ToString(device), text);
  }
}

TEST(DeviceIdTest, RefusesWhatIsNoDeviceAndQuotesIt) {
  for (const char* text :
       {"", ":", ":1", "cuda:", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:128",
        "cuda:1x", "cuda:1:2", "Cuda:0", "1gpu", "gp u", "cpu:1",
        "a_type_name_longer_than_32_bytes_x"}) {
    EXPECT_THAT(ParseDeviceId(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::string("\"").append(
                             std::string(text).substr(0, 32)))))
        << text;
  }
}

TEST(DeviceIdTest, ValidatesValuesThatWereNotParsed) {
  EXPECT_THAT(ValidateDeviceId({"cuda", 5}), IsOk());
  EXPECT_THAT(ValidateDeviceId({"cuda", -1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ValidateDeviceId({"cuda", 128}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ValidateDeviceId({"cpu", 1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ValidateDeviceId({std::string(1 << 20, 'a'), 0}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace tensorferry
