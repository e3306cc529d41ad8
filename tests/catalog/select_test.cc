#include "catalog/select.h"

#include <ATen/ops/full.h>
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
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void Publish(Catalog& catalog, const std::string& bundle,
             const std::vector<std::string>& names) {
  NamedTensors contents;
  for (const std::string& name : names) {
    contents.names.push_back(name);
    contents.tensors.push_back(at::full({2}, 1.0f));
  }
  contents.metadata = {{"from", bundle}};
  contents.file_header = "{...}";
  ASSERT_THAT(catalog.Publish(bundle, std::move(contents)), IsOk());
}

TEST(SelectTest, TakesOneBundleWholeWithItsFileHeader) {
  Catalog catalog;
  Publish(catalog, "a", {"x", "y"});
  Publish(catalog, "b", {"x"});
  FERRY_ASSERT_OK_AND_ASSIGN(Selection chosen, Select(catalog, "a", ""));
  EXPECT_THAT(chosen.names, ElementsAre("x", "y"));
  EXPECT_EQ(chosen.tensors.size(), 2u);
  ASSERT_EQ(chosen.reply.bundles_size(), 1);
  EXPECT_EQ(chosen.reply.bundles(0).version(), 1u);
  EXPECT_EQ(chosen.reply.bundles(0).tensors(), 2u);
  EXPECT_EQ(chosen.reply.bundles(0).file_header(), "{...}");
  EXPECT_EQ(chosen.reply.nbytes(), 16u);
}

TEST(SelectTest, ANarrowedBundleHasNoFileHeader) {
  Catalog catalog;
  Publish(catalog, "a", {"x", "y"});
  FERRY_ASSERT_OK_AND_ASSIGN(Selection chosen, Select(catalog, "a", "y*"));
  EXPECT_THAT(chosen.names, ElementsAre("y"));
  EXPECT_THAT(chosen.reply.bundles(0).file_header(), IsEmpty());
  EXPECT_EQ(chosen.reply.bundles(0).metadata().at("from"), "a");
}

TEST(SelectTest, TakesAllBundlesInOrderOfTheirNames) {
  Catalog catalog;
  Publish(catalog, "b", {"z"});
  Publish(catalog, "a", {"x", "y"});
  FERRY_ASSERT_OK_AND_ASSIGN(Selection chosen, Select(catalog, "", "*"));
  EXPECT_THAT(chosen.names, ElementsAre("x", "y", "z"));
  ASSERT_EQ(chosen.reply.bundles_size(), 2);
  EXPECT_EQ(chosen.reply.bundles(0).name(), "a");
  EXPECT_EQ(chosen.reply.bundles(1).tensors(), 1u);
}

TEST(SelectTest, ANameThatTwoBundlesHaveAsksToChoose) {
  Catalog catalog;
  Publish(catalog, "a", {"w", "x"});
  Publish(catalog, "b", {"w", "y"});
  EXPECT_THAT(Select(catalog, "", ""),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"a\""), HasSubstr("\"b\""),
                             HasSubstr("\"w\""), HasSubstr("choose"))));
  EXPECT_THAT(Select(catalog, "", "y"), IsOk());
}

TEST(SelectTest, SaysWhatIsNotThere) {
  Catalog catalog;
  EXPECT_THAT(Select(catalog, "", ""), StatusIs(absl::StatusCode::kNotFound));
  Publish(catalog, "a", {"x"});
  EXPECT_THAT(Select(catalog, "b", ""),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"b\"")));
  EXPECT_THAT(Select(catalog, "a", "z*"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"z*\"")));
  EXPECT_THAT(Select(catalog, "", "z*"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"z*\"")));
}

TEST(SelectTest, WhatIsNotGrantedIsAsIfItWereNotThere) {
  Catalog catalog, empty;
  Publish(catalog, "a", {"x", "y"});
  Publish(catalog, "b", {"x"});
  const std::vector<BundleGrant> only_a = {{"a", "*"}};
  FERRY_ASSERT_OK_AND_ASSIGN(Selection chosen, Select(catalog, "", "", only_a));
  EXPECT_THAT(chosen.names, ElementsAre("x", "y"));
  EXPECT_EQ(chosen.reply.bundles_size(), 1);
  EXPECT_EQ(Select(catalog, "b", "", only_a).status(),
            Select(empty, "b", "", only_a).status());
  // By its name, or by the names of its tensors.
  for (const BundleGrant& nothing :
       {BundleGrant{"c", "*"}, BundleGrant{"*", "z"}}) {
    for (const std::string name : {"", "a"}) {
      EXPECT_THAT(Select(empty, name, ""),
                  StatusIs(absl::StatusCode::kNotFound));
      EXPECT_EQ(Select(catalog, name, "", {nothing}).status(),
                Select(empty, name, "").status());
    }
  }
}

TEST(SelectTest, ATensorThatIsNotGrantedIsDenied) {
  Catalog catalog;
  Publish(catalog, "a", {"x", "y"});
  EXPECT_THAT(
      Select(catalog, "a", "", {{"*", "x"}}),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("\"y\"")));
  EXPECT_THAT(Select(catalog, "a", "x", {{"*", "x"}}), IsOk());
}

TEST(SelectTest, RefusesAGlobThatIsTooLong) {
  EXPECT_THAT(Select(Catalog(), "", std::string(4097, '*')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4097")));
}

TEST(SelectTest, RefusesAGlobThatTakesTooLongToMatch) {
  std::vector<std::string> names;
  for (int i = 0; i < 64; ++i) {
    names.push_back(absl::StrCat(std::string(4090, 'a'), i));
  }
  Catalog catalog;
  Publish(catalog, "a", names);
  EXPECT_THAT(
      Select(catalog, "a", absl::StrCat("*", std::string(2047, 'a'), "b")),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("steps")));
  EXPECT_THAT(Select(catalog, "a", "*a*1"), IsOk());
}

TEST(SelectTest, KeepsItsVersionWhenANewerOneIsPublished) {
  Catalog catalog;
  Publish(catalog, "a", {"x"});
  FERRY_ASSERT_OK_AND_ASSIGN(Selection chosen, Select(catalog, "a", ""));
  Publish(catalog, "a", {"other"});
  EXPECT_EQ(chosen.reply.bundles(0).version(), 1u);
  EXPECT_TRUE(chosen.tensors[0].equal(at::full({2}, 1.0f)));
}

}  // namespace
}  // namespace tensorferry
