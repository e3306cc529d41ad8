#include "control/policy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/authorizer.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Identity Who(std::string principal) { return {{std::move(principal)}}; }

void Write(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  ASSERT_EQ(std::rename((path + ".new").c_str(), path.c_str()), 0);
}

TEST(PolicyTest, WhatWasNotGivenIsDenied) {
  const Grants nothing;
  EXPECT_FALSE(nothing.describe);
  EXPECT_FALSE(nothing.administer);
  EXPECT_FALSE(PermitsBundle(nothing.pull, "model"));
  EXPECT_THAT(Restrict(Policy(), nothing, Who("token:ci")),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("token:ci may not open sessions")));
  Grants no_device;
  no_device.sessions = 1;
  EXPECT_THAT(Restrict(Policy(), no_device, Who("uid:7")),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("devices: \"cpu\"")));
}

TEST(PolicyTest, TheFirstRuleThatNamesTheCallerCountsAlone) {
  auto rules = ParsePolicy(R"(
      rules { who: "token:ci" who: "cert:*.train.example" sessions: 2 }
      rules { who: "token:*" sessions: 5 describe: true }
      rules { who: "anonymous" describe: true })");
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(GrantsFrom(*rules, Who("token:ci")).sessions, 2);
  EXPECT_FALSE(GrantsFrom(*rules, Who("token:ci")).describe);
  EXPECT_EQ(GrantsFrom(*rules, Who("token:other")).sessions, 5);
  EXPECT_EQ(GrantsFrom(*rules, Who("cert:a.train.example")).sessions, 2);
  EXPECT_EQ(GrantsFrom(*rules, Who("cert:a.example")).sessions, 0);
  EXPECT_TRUE(GrantsFrom(*rules, Identity()).describe);
  // Several principals: any of them.
  EXPECT_EQ(GrantsFrom(*rules, {{"cert:x", "token:other"}}).sessions, 5);
}

TEST(PolicyTest, NobodyGetsInByANameThatLooksLikeARule) {
  auto rules = ParsePolicy(R"(rules { who: "anonymous" sessions: 1 })");
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(GrantsFrom(*rules, Who("token:anonymous")).sessions, 0);
  EXPECT_EQ(GrantsFrom(*rules, Who("cert:anonymous")).sessions, 0);
}

TEST(PolicyTest, BundlesAndNamesAreBothMatched) {
  auto rules = ParsePolicy(R"(
      rules { who: "*" pull { bundle: "model" names: "encoder.*" }
              pull { bundle: "public*" } })");
  ASSERT_THAT(rules, IsOk());
  const std::vector<BundleGrant> pull = GrantsFrom(*rules, Identity()).pull;
  EXPECT_TRUE(Permits(pull, "model", "encoder.w"));
  EXPECT_FALSE(Permits(pull, "model", "decoder.w"));
  EXPECT_TRUE(Permits(pull, "public2", "anything"));
  EXPECT_FALSE(Permits(pull, "private", "encoder.w"));
  EXPECT_TRUE(PermitsBundle(pull, "model"));
  EXPECT_FALSE(PermitsBundle(pull, "private"));
}

TEST(PolicyTest, DevicesAndLimitsNarrowThePeersOwn) {
  auto rules = ParsePolicy(R"(
      rules { who: "*" sessions: 1 devices: "cpu" devices: "cuda:1"
              limits { message_bytes: 100 body_lanes: 2 } })");
  ASSERT_THAT(rules, IsOk());
  Policy own;
  own.devices = {{"cuda", 1}, {"cuda", 2}};
  own.limits = Unlimited();
  own.limits->message_bytes = 50;
  auto policy = Restrict(own, GrantsFrom(*rules, Identity()), Identity());
  ASSERT_THAT(policy, IsOk());
  EXPECT_THAT(policy->devices, ElementsAre(DeviceId{"cuda", 1}));
  EXPECT_EQ(policy->limits->message_bytes, 50u);
  EXPECT_EQ(policy->limits->body_lanes, 2u);
  // A limit that is absent bounds nothing, not even at the default.
  EXPECT_EQ(policy->limits->tensors, Unlimited().tensors);
}

TEST(PolicyTest, ErrorsSayTheLine) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"rules {\n  who: \"*\"\n  pulll {}\n}", "3:"},
      {"rules {\n  who: \"ci\"\n}", "2:3: who: \"ci\" is none of"},
      {"rules { who: \"token:\" }", "1:9: who"},
      {"rules { who: \"*\" devices: [\"cpu\",\n\"gpu!\"] }", "1:1: devices"},
      {"\nrules {\n sessions: 1 }",
       "2:1: who: a rule without it is for nobody"},
      {"rules { who: \"*\"\n\n devices: \"gpu!\" }", "3:2: devices: "},
      {"rules { who: \"*\" sessions: -1 }", "1:"},
      {"nonsense", "1:"},
  };
  for (const auto& [text, says] : wrong) {
    EXPECT_THAT(ParsePolicy(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)))
        << text;
  }
  EXPECT_THAT(ParsePolicy(""), IsOk());  // nobody may do anything
}

TEST(PolicyFileTest, IsReadAgainAndABadOneIsNotBelieved) {
  const std::string path = ::testing::TempDir() + "/policy";
  Write(path, R"(rules { who: "*" sessions: 1 })");
  std::vector<absl::Status> reloads;
  auto file = PolicyFile::Open(
      path, [&](const std::string& which, const absl::Status& status) {
        EXPECT_EQ(which, path);
        reloads.push_back(status);
      });
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 1);
  EXPECT_THAT(reloads, IsEmpty());

  Write(path, R"(rules { who: "*" sessions: 22 })");
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 22);
  EXPECT_THAT(reloads, ElementsAre(IsOk()));

  Write(path, "rules {");
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 22);
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 22);
  EXPECT_THAT(reloads,
              ElementsAre(IsOk(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           StartsWith(path))));
  std::remove(path.c_str());
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 22);
}

TEST(PolicyFileTest, OnReloadMayAskTheFileAgain) {
  const std::string path = ::testing::TempDir() + "/asked_again";
  Write(path, R"(rules { who: "*" sessions: 1 })");
  std::shared_ptr<PolicyFile> file;
  std::vector<int> told;
  auto opened =
      PolicyFile::Open(path, [&](const std::string&, const absl::Status&) {
        told.push_back(file->GrantsOf({}).sessions);
      });
  ASSERT_THAT(opened, IsOk());
  file = *std::move(opened);
  Write(path, R"(rules { who: "*" sessions: 22 })");
  EXPECT_EQ(file->GrantsOf({}).sessions, 22);
  EXPECT_THAT(told, ElementsAre(22));
}

TEST(PolicyFileTest, WhatOnReloadThrowsIsDropped) {
  const std::string path = ::testing::TempDir() + "/throws";
  Write(path, R"(rules { who: "*" sessions: 1 })");
  auto file =
      PolicyFile::Open(path, [](const std::string&, const absl::Status&) {
        throw std::runtime_error("the log is full");
      });
  ASSERT_THAT(file, IsOk());
  Write(path, R"(rules { who: "*" sessions: 22 })");
  EXPECT_EQ((*file)->GrantsOf({}).sessions, 22);
}

TEST(PolicyFileTest, WhatIsNoPolicyFileIsRefusedAtTheStart) {
  EXPECT_THAT(PolicyFile::Open(::testing::TempDir() + "/none"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(PolicyFile::Open(::testing::TempDir()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string path = ::testing::TempDir() + "/long";
  Write(path, std::string((1 << 20) + 1, '#'));
  EXPECT_THAT(PolicyFile::Open(path),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace tensorferry
