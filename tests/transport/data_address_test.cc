#include "transport/data_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

TEST(DataAddressTest, ReadsWhatItWrites) {
  for (const char* text :
       {"unix://@tensorferry/1/ab", "unix:///run/x", "tcp://127.0.0.1:40411",
        "tls://[fe80::1]:40411", "tcp://[::1]:65535", "tls://0.0.0.0:1"}) {
    auto address = ParseDataAddress(text);
    ASSERT_THAT(address, IsOk()) << text;
    EXPECT_EQ(ToString(*address), text);
  }
  EXPECT_THAT(
      ParseDataAddress("tls://[::1]:7"),
      IsOkAndHolds(DataAddress{.wire = Wire::kTls, .host = "::1", .port = 7}));
}

TEST(DataAddressTest, RefusesOtherForms) {
  for (const std::string& text : {std::string(),
                                  std::string("unix://"),
                                  std::string("unix://x"),
                                  std::string("unix://@"),
                                  std::string("unix://@a b"),
                                  "unix:///" + std::string(108, 'x'),
                                  std::string("tcp://localhost:1"),
                                  std::string("tcp://1.2.3.4"),
                                  std::string("tcp://1.2.3.4:0"),
                                  std::string("tcp://1.2.3.4:65536"),
                                  std::string("tcp://1.2.3.4:+1"),
                                  std::string("tcp://1.2.3.4:1 "),
                                  std::string("tcp://::1:1"),
                                  std::string("tcp://[::1]"),
                                  std::string("tcp://[::1]x:1"),
                                  std::string("tls://[fe80::1%eth0]:1"),
                                  std::string("tcp://[1.2.3.4]:1"),
                                  std::string("http://1.2.3.4:1"),
                                  std::string("tcp://1.2.3.4\0:1", 15),
                                  std::string("unix:///a\0b", 11)}) {
    EXPECT_THAT(ParseDataAddress(text),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(DataAddressTest, KnowsWhatStaysOnThisHost) {
  for (const char* text : {"unix://@x", "tcp://127.8.9.1:1", "tls://[::1]:1",
                           "tcp://[::ffff:127.0.0.1]:1"}) {
    EXPECT_TRUE(IsLoopback(*ParseDataAddress(text))) << text;
  }
  for (const char* text :
       {"tcp://10.0.0.1:1", "tcp://0.0.0.0:1", "tls://[fe80::1]:1",
        "tcp://[::]:1", "tcp://[::ffff:10.0.0.1]:1"}) {
    EXPECT_FALSE(IsLoopback(*ParseDataAddress(text))) << text;
  }
}

}  // namespace
}  // namespace tensorferry
