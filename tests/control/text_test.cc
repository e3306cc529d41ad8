#include "control/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

TEST(TextTest, IsUtf8WithoutControlCharacters) {
  for (const char* good : {"", "caf\xc3\xa9", "a b", "\xf0\x9f\x9a\xa2"}) {
    EXPECT_THAT(ValidateText(good), IsOk());
    EXPECT_EQ(CleanLine(good), good);
  }
  for (const auto& [bad, why] :
       std::vector<std::pair<const char*, const char*>>{
           {"\xff", "not UTF-8"},
           {"caf\xc3", "not UTF-8"},
           {"a\nb", "control character at byte 1"},
           {"\x1b[31m", "control character at byte 0"},
           {"\x7f", "control character at byte 0"},
           {"ab\xc2\x9b", "control character at byte 2"}}) {
    EXPECT_THAT(ValidateText(bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_THAT(ValidateText(CleanLine(bad)), IsOk());
  }
}

TEST(TextTest, LinesKeepTheirEndsOnly) {
  EXPECT_EQ(CleanLines("one\ntwo\r\x1b[2J\xff"), "one\ntwo??[2J?");
  EXPECT_EQ(CleanLine("one\ntwo"), "one?two");
}

TEST(TextTest, IsCutBetweenCharacters) {
  EXPECT_EQ(Cut("12345678", 8), "12345678");
  EXPECT_EQ(Cut("123456789", 8), "1234 ...");
  EXPECT_EQ(Cut("123\xc3\xa9pqrs", 8), "123 ...");
}

TEST(TextTest, NamesAreFewAndShortHoweverManyThereAre) {
  EXPECT_EQ(Names({}), "");
  EXPECT_EQ(Names({"a", "b", "c", "d"}), "a, b, c, d");
  EXPECT_EQ(Names({"a", "b", "c", "d", "e", "f"}), "a, b, c, d ... (6 in all)");
  std::vector<std::string> many(100, std::string(1000, 'x'));
  EXPECT_LT(Names(many).size(), 300u);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
