#include "control/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

TEST(AddressTest, LoopbackAddressesAreValidAndLoopback) {
  for (const char* address :
       {"127.0.0.1:0", "127.0.0.1:4750", "127.255.3.4:65535", "[::1]:0",
        "[0:0:0:0:0:0:0:1]:80", "[::ffff:127.0.0.1]:80", "localhost:1",
        "LocalHost:1", "unix:/run/x.sock", "unix:x.sock", "unix:///run/x"}) {
    EXPECT_THAT(ValidateControlAddress(address), IsOk()) << address;
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
}

TEST(AddressTest, OtherAddressesAreValidAndNotLoopback) {
  for (const char* address :
       {"0.0.0.0:0", "[::]:0", "10.1.2.3:4750", "128.0.0.1:1", "[fe80::1]:1",
        "[::ffff:10.0.0.1]:80", "[::ffff:0:0]:80", "host:1",
        "host-1.example.org:443", "localhost.evil.org:1", "127.0.0.1.nip.io:1",
        "notlocalhost:1", "x_y:9"}) {
    EXPECT_THAT(ValidateControlAddress(address), IsOk()) << address;
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(AddressTest, WhatIsNoAddressIsRefusedAndNotLoopback) {
  for (const std::string& address :
       std::vector<std::string>{"",
                                ":",
                                ":80",
                                "localhost",
                                "127.0.0.1",
                                "127.0.0.1:",
                                "127.0.0.1:x",
                                "127.0.0.1:-1",
                                "127.0.0.1:+1",
                                "127.0.0.1:65536",
                                "127.0.0.1:000080",
                                "127.0.0.1:80:80",
                                "127.1:80",
                                "127.0.0.256:80",
                                "2130706433:80",
                                "::1:80",
                                "[::1]",
                                "[::1]:",
                                "[::1]80",
                                "[::1:80",
                                "[]:80",
                                "[127.0.0.1]:80",
                                "[::g]:80",
                                "[::1%lo]:80",
                                "unix:",
                                "unix://host/x",
                                "unix:/a%62",
                                "unix:/a?b",
                                "unix:/a b",
                                "http://127.0.0.1:80",
                                "dns:///127.0.0.1:80",
                                "a..b:80",
                                "-a:80",
                                "a-:80",
                                "127.0.0.1:80\n",
                                " 127.0.0.1:80",
                                "127.0.0.1 :80",
                                std::string("127.0.0.1:80\0", 13),
                                std::string("\0:80", 4),
                                "unix:" + std::string(108, 'x'),
                                std::string(64, 'a') + ":80",
                                std::string(100000, 'a') + ":80",
                                "\xc3\xa9.org:80"}) {
    EXPECT_THAT(ValidateControlAddress(address),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::HasSubstr("127.0.0.1:4750")))
        << address;
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(AddressTest, TakesAnyBytes) {
  std::mt19937 random(1);
  const std::string alphabet("[]:.%/0127unixlocalhost\0\xff-", 27);
  for (int i = 0; i < 200000; ++i) {
    std::string text;
    for (size_t n = random() % 16; n > 0; --n) {
      text += alphabet[random() % alphabet.size()];
    }
    EXPECT_TRUE(!IsLoopback(text) || ValidateControlAddress(text).ok());
  }
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
