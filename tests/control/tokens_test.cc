#include "control/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// sha256sum of "secret" and of "other".
constexpr char kSecret[] =
    "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] =
    "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

TEST(TokensTest, ATokenIsKnownByItsHash) {
  auto known = ParseKnownTokens(absl::StrCat("# who may call\n\n  ci ", kSecret,
                                             "  # since May\nlab\t", kOther));
  ASSERT_THAT(known, IsOk());
  EXPECT_EQ(NameOfToken(*known, "secret"), "ci");
  EXPECT_EQ(NameOfToken(*known, "other"), "lab");
  for (const std::string token : {"", "Secret", "secret2", kSecret}) {
    EXPECT_EQ(NameOfToken(*known, token), std::nullopt);
  }
}

TEST(TokensTest, ANameMayHaveTwoTokensWhileOneIsReplaced) {
  auto known =
      ParseKnownTokens(absl::StrCat("ci ", kSecret, "\nci ", kOther, "\n"));
  ASSERT_THAT(known, IsOk());
  EXPECT_EQ(NameOfToken(*known, "secret"), "ci");
  EXPECT_EQ(NameOfToken(*known, "other"), "ci");
}

TEST(TokensTest, ErrorsSayTheLine) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"ci", "1: want NAME SHA256"},
      {absl::StrCat("\nci ", kSecret, " x"), "2: want NAME SHA256"},
      {absl::StrCat("a:b ", kSecret), "1: want NAME SHA256"},
      {"\n\nci secret", "3: the hash of \"ci\" is not 64 hex digits"},
      {absl::StrCat("ci ", kSecret, "0"), "64 hex digits"},
  };
  for (const auto& [text, says] : wrong) {
    EXPECT_THAT(ParseKnownTokens(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)));
  }
}

TEST(TokensTest, ABearerTokenIsReadStrictlyAndNeverRepeated) {
  EXPECT_THAT(BearerToken("Bearer secret"), IsOkAndHolds("secret"));
  EXPECT_THAT(BearerToken("bearer  a-._~+/=9 "), IsOkAndHolds("a-._~+/=9"));
  for (const std::string header :
       {"", "Bearer", "Bearer ", "Basic secret", "secret", "Bearer sec ret",
        "Bearer s\xc3\xa9"}) {
    EXPECT_THAT(
        BearerToken(header),
        StatusIs(absl::StatusCode::kUnauthenticated,
                 AllOf(HasSubstr("Bearer TOKEN"), Not(HasSubstr("sec ret")))));
  }
  EXPECT_THAT(BearerToken("Bearer " + std::string(4097, 'a')),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST(TokensTest, AClientsFileHasOneTokenOnOneLine) {
  EXPECT_THAT(ParseToken("secret\n"), IsOkAndHolds("secret"));
  for (const std::string text : {"", "\n", "two lines\n", "a\nb"}) {
    EXPECT_THAT(ParseToken(text), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

}  // namespace
}  // namespace tensorferry
