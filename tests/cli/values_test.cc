#include "cli/values.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "cli/bundle_name.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry::cli {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::IsOkAndHolds;
using ::testing::ElementsAre;

Arguments Given(const std::string& value) {
  return *Arguments::Parse(
      {{"flag", "VALUE", "", true}}, {}, {"--flag", value},
      [](const std::string&) -> std::optional<std::string> { return {}; });
}

template <class T>
bool IsUsage(const absl::StatusOr<T>& result) {
  return IsUsageError(result.status());
}

TEST(ValuesTest, ReadsTimes) {
  EXPECT_THAT(DurationOf(Given("30s"), "flag", absl::Seconds(1)),
              IsOkAndHolds(absl::Seconds(30)));
  EXPECT_THAT(DurationOf(Given("1m30s"), "flag", absl::Seconds(1)),
              IsOkAndHolds(absl::Seconds(90)));
  EXPECT_THAT(DurationOf(Given("x"), "other", absl::Seconds(1)),
              IsOkAndHolds(absl::Seconds(1)));
  for (const char* bad : {"", "30", "-1s", "0s", "soon", "inf"}) {
    EXPECT_TRUE(IsUsage(DurationOf(Given(bad), "flag", absl::Seconds(1))))
        << bad;
  }
}

TEST(ValuesTest, ReadsSwitches) {
  EXPECT_THAT(OnOffOf(Given("on"), "flag", false), IsOkAndHolds(true));
  EXPECT_THAT(OnOffOf(Given("off"), "flag", true), IsOkAndHolds(false));
  EXPECT_TRUE(IsUsage(OnOffOf(Given("yes"), "flag", true)));
}

TEST(ValuesTest, ReadsPlacementRules) {
  FERRY_ASSERT_OK_AND_ASSIGN(Placement placement,
                             PlacementOf(Given("encoder.*=cuda:1"), "flag"));
  ASSERT_EQ(placement.rules.size(), 1u);
  EXPECT_EQ(placement.rules[0].name_glob, "encoder.*");
  EXPECT_TRUE(IsUsage(PlacementOf(Given("no rule"), "flag")));
  EXPECT_TRUE(IsUsage(PlacementOf(Given("cpu=cuda:200"), "flag")));
}

TEST(ValuesTest, ReadsSizes) {
  EXPECT_THAT(
      SizesOf(Given("1,2B,3KiB,4MiB,5GiB"), "flag", ""),
      IsOkAndHolds(ElementsAre(1u, 2u, 3u << 10, 4u << 20, uint64_t{5} << 30)));
  EXPECT_THAT(SizesOf(Given("x"), "other", "7KiB"),
              IsOkAndHolds(ElementsAre(7u << 10)));
  for (const char* bad :
       {"", "0", "-1", "1KB", "1,", "2000GiB", "99999999999999999999"}) {
    EXPECT_TRUE(IsUsage(SizesOf(Given(bad), "flag", ""))) << bad;
  }
}

TEST(ValuesTest, NamesBundlesAfterFiles) {
  EXPECT_THAT(BundleNameOf("/a/b/model.safetensors"), IsOkAndHolds("model"));
  EXPECT_THAT(BundleNameOf("v1.2.safetensors"), IsOkAndHolds("v1.2"));
  for (const char* bad : {"model.bin", ".safetensors", "model",
                          "a/..safetensors", "safetensors"}) {
    EXPECT_TRUE(IsUsage(BundleNameOf(bad))) << bad;
  }
}

TEST(ValuesTest, ShowsValuesAsPeopleReadThem) {
  EXPECT_EQ(ShowBytes(17), "17 B");
  EXPECT_EQ(ShowBytes(90868376), "86.7 MiB");
  EXPECT_EQ(ShowRate(2'500'000'000, absl::Seconds(2)), "1.25 GB/s");
  EXPECT_EQ(ShowRate(1, absl::ZeroDuration()), "-");
  EXPECT_EQ(ShowTime(absl::Microseconds(1500)), "1.50 ms");
  EXPECT_EQ(ShowTime(absl::Seconds(200)), "3m20s");
}

TEST(ProgressTextTest, SaysBytesRateAndTimeLeft) {
  EXPECT_EQ(ProgressText("pull", {.bytes = 1 << 20, .total = 4 << 20},
                         absl::Seconds(1)),
            "pull   1.0 MiB of 4.0 MiB   1.0 MB/s   3.00 s left");
  EXPECT_EQ(ProgressText("pull", {.bytes = 4 << 20, .total = 4 << 20},
                         absl::Seconds(1)),
            "pull   4.0 MiB of 4.0 MiB   4.2 MB/s");
  EXPECT_EQ(ProgressText("pull", {}, absl::Seconds(1)),
            "pull   0 B of 0 B   0.0 kB/s");
}

// What a line that shows `shown` writes to a terminal, and a '.' behind it.
std::string OnTerminal(const std::vector<Progress>& shown) {
  const int controller = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_GE(controller, 0);
  EXPECT_EQ(grantpt(controller) | unlockpt(controller), 0);
  std::FILE* const terminal =
      fdopen(open(ptsname(controller), O_RDWR | O_NOCTTY), "w");
  {
    ProgressLine line(terminal, "pull");
    const ProgressCallback callback = line.Callback();
    for (Progress progress : shown) callback(progress);
  }
  std::fputc('@', terminal);
  std::fflush(terminal);
  std::string written;
  char byte = 0;
  while (byte != '@' && read(controller, &byte, 1) == 1) written += byte;
  std::fclose(terminal);
  close(controller);
  return written;
}

TEST(ProgressLineTest, EndsOnceHoweverOftenItIsFull) {
  const Progress half = {.bytes = 1, .total = 2};
  const Progress full = {.bytes = 2, .total = 2};
  const std::string written = OnTerminal({half, full, full, full});
  EXPECT_EQ(std::count(written.begin(), written.end(), '\n'), 1) << written;
}

TEST(ProgressLineTest, EndsWhenTheTransferFails) {
  const std::string written = OnTerminal({{.bytes = 1, .total = 2}});
  EXPECT_EQ(std::count(written.begin(), written.end(), '\n'), 1) << written;
}

TEST(ProgressLineTest, ALineThatWasNeverShownDoesNotEnd) {
  EXPECT_EQ(OnTerminal({}), "@");
}

TEST(ProgressLineTest, ALogIsNoPlaceForIt) {
  std::FILE* const file = std::tmpfile();
  EXPECT_FALSE(ProgressLine(file, "pull").Callback());
  std::fclose(file);
}

TEST(OutputTest, WhatAPeerWroteMovesNoCursorAndBeginsNoLine) {
  EXPECT_EQ(Printable("a\nb\x1b[2J"), "a\nb\\x1b[2J");
  EXPECT_EQ(Printable("\xc2\x9b[ \xc2\xa0 \xc3\xa4"),
            "\\xc2\\x9b[ \xc2\xa0 \xc3\xa4");
  EXPECT_EQ(OneLine("a\npush by x: OK"), "a\\npush by x: OK");
}

}  // namespace
}  // namespace tensorferry::cli
