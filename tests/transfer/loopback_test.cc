#include "transfer/loopback.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

TEST(LoopbackTest, OnlyNumbersBeginningWith127AreLoopback) {
  EXPECT_TRUE(IsLoopbackHost("127.0.0.1"));
  EXPECT_TRUE(IsLoopbackHost("127.255.3.2"));
  for (const char* host :
       {"", "127.example.com", "127.0.0.1.example.com", "127.0.0",
        "127.0.0.256", "127.0.0.", "127..0.1", "127.0.0.0001", "10.0.0.1",
        "localhost", "127.0.0.1 "}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(LoopbackTest, AddressHasTransportHostAndPort) {
  EXPECT_THAT(CheckLoopback("uv://127.0.0.1:40411"), IsOk());
  for (const char* address :
       {"", "127.0.0.1:1", "://127.0.0.1:1", "uv://127.0.0.1",
        "uv://127.0.0.1:", "uv://127.0.0.1:0", "uv://127.0.0.1:65536",
        "uv://127.0.0.1:1:1", "uv://127.0.0.1:+1", "uv://127.example.com:1",
        "uv://192.0.2.1:80", "uv://127.0.0.1:1://127.0.0.1:1"}) {
    EXPECT_THAT(CheckLoopback(address),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("want TRANSPORT")))
        << address;
  }
}

}  // namespace
}  // namespace tensorferry
