// The real program, where it needs nobody else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/cli/program.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Program;
using ::tensorferry::testing::Words;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Words& AllNames() {
  static const auto* const names =
      new Words{"serve",    "list",     "pull",   "push", "explain",
                "describe", "sessions", "doctor", "bench"};
  return *names;
}

TEST(CommandLineTest, HelpListsAllCommands) {
  for (const Words& words : {Words{"--help"}, Words{"help"}, Words{"-h"}}) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 0);
    for (const std::string& name : AllNames()) {
      EXPECT_THAT(program.out(), HasSubstr("\n  " + name + " "));
    }
  }
}

TEST(CommandLineTest, EveryCommandExplainsItselfWithAnExample) {
  for (const std::string& name : AllNames()) {
    Program program({name, "--help"});
    EXPECT_EQ(program.Wait(), 0);
    EXPECT_THAT(program.out(), AllOf(HasSubstr("\n  tensorferry " + name),
                                     HasSubstr("--json")));
  }
}

TEST(CommandLineTest, HelpMayBeAskedForInOtherWays) {
  Program dashed({"pull", "--help"});
  dashed.Wait();
  for (const Words& words : {Words{"help", "pull"}, Words{"pull", "-h"},
                             Words{"pull", "--help", "--json"}}) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 0);
    EXPECT_EQ(program.out(), dashed.out());
  }
}

TEST(CommandLineTest, WrongUsageIsExitCodeTwoAndOneSentenceWithAHint) {
  const std::vector<std::pair<Words, std::string>> wrong = {
      {{"pul"}, "did you mean pull?"},
      {{"pull", "127.0.0.1:1"}, "--out"},
      {{"pull", "--out", "x"}, "ADDRESS is missing"},
      {{"pull", "127.0.0.1:1", "--oot", "x"}, "did you mean --out?"},
      {{"pull", "127.0.0.1:1", "--out", "x", "--deadline", "30"}, "like 30s"},
      {{"pull", "127.0.0.1:1", "--out", "x", "--digest", "yes"}, "on or off"},
      {{"pull", "127.0.0.1:1", "--out", "x", "--map", "cpu"}, "--map"},
      {{"push", "model.bin", "127.0.0.1:1"}, "FILE.safetensors"},
      {{"serve", "--name", "a"}, "--control HOST:PORT is missing"},
      {{"serve", "--name", "a", "--control", "127.0.0.1:0", "--data", "x:y"},
       "HOST:LOW-HIGH"},
      {{"list"}, "ADDRESS is missing"},
      {{"doctor", "me"}, "one word too many"},
      {{"bench", "127.0.0.1:1", "--sizes", "big"}, "sizes"},
      {{"explain", "127.0.0.1:1", "--direction", "up"}, "pull nor push"},
  };
  for (const auto& [words, says] : wrong) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 2) << program.err();
    EXPECT_THAT(program.out(), IsEmpty());
    EXPECT_THAT(program.err(), AllOf(HasSubstr(says), HasSubstr("--help")));
    EXPECT_EQ(std::count(program.err().begin(), program.err().end(), '\n'), 1)
        << program.err();
  }
}

TEST(CommandLineTest, NoCommandShowsTheHelpAsAnError) {
  Program program({});
  EXPECT_EQ(program.Wait(), 2);
  EXPECT_THAT(program.out(), IsEmpty());
  EXPECT_THAT(program.err(), HasSubstr("tensorferry COMMAND"));
}

TEST(CommandLineTest, JsonIsOneObjectWhateverGoesWrong) {
  for (const Words& words :
       {Words{"pull", "--json"}, Words{"nonsense", "--json"},
        Words{"list", "nonsense", "--json"},
        Words{"pull", "127.0.0.1:1", "--out", "/tmp/x", "--json"}}) {
    Program program(words);
    const int code = program.Wait();
    const auto object = nlohmann::json::parse(program.out(), nullptr, false);
    ASSERT_TRUE(object.is_object()) << program.out();
    EXPECT_NE(code, 0);
    EXPECT_NE(object["status"], "OK");
    EXPECT_THAT(object["message"].get<std::string>(),
                ::testing::Not(IsEmpty()));
  }
}

TEST(CommandLineTest, NobodyThereIsUnavailableAndExitCodeOne) {
  for (const Words& words :
       {Words{"list", "127.0.0.1:1"}, Words{"describe", "127.0.0.1:1"},
        Words{"sessions", "127.0.0.1:1"}, Words{"explain", "127.0.0.1:1"},
        Words{"bench", "127.0.0.1:1"},
        Words{"pull", "127.0.0.1:1", "--out", "/tmp/never_written"}}) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 1);
    EXPECT_THAT(program.err(), HasSubstr("UNAVAILABLE"));
  }
}

TEST(CommandLineTest, AnAddressThatIsNoneIsInvalid) {
  Program program({"list", "nonsense"});
  EXPECT_EQ(program.Wait(), 1);
  EXPECT_THAT(program.err(), HasSubstr("INVALID_ARGUMENT"));
}

TEST(CommandLineTest, VariablesMirrorFlags) {
  Program program({"pull", "127.0.0.1:1"},
                  {{"TENSORFERRY_OUT", "x"}, {"TENSORFERRY_DEADLINE", "soon"}});
  EXPECT_EQ(program.Wait(), 2);
  EXPECT_THAT(program.err(), HasSubstr("\"soon\""));
}

TEST(CommandLineTest, DoctorSaysWhatItFindsAndWhatItMeans) {
  Program program({"doctor", "--json"});
  EXPECT_EQ(program.Wait(), 0) << program.err();
  const auto object = nlohmann::json::parse(program.out());
  EXPECT_EQ(object["status"], "OK");
  ASSERT_GE(object["findings"].size(), 6u);
  for (const auto& finding : object["findings"]) {
    EXPECT_THAT(finding["meaning"].get<std::string>(),
                ::testing::Not(IsEmpty()));
  }
}

}  // namespace
}  // namespace tensorferry
