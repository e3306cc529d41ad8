// The real program, where it needs nobody else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

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

// An address where nobody listens: a port that was free a moment ago.
const std::string& Nobody() {
  static const std::string* const address = [] {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(any);
    bind(fd, reinterpret_cast<sockaddr*>(&any), size);
    getsockname(fd, reinterpret_cast<sockaddr*>(&any), &size);
    close(fd);
    return new std::string("127.0.0.1:" + std::to_string(ntohs(any.sin_port)));
  }();
  return *address;
}

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
      {{"pull", Nobody()}, "--out"},
      {{"pull", "--out", "x"}, "ADDRESS is missing"},
      {{"pull", Nobody(), "--oot", "x"}, "did you mean --out?"},
      {{"pull", Nobody(), "--out", "x", "--deadline", "30"}, "like 30s"},
      {{"pull", Nobody(), "--out", "x", "--digest", "yes"}, "on or off"},
      {{"pull", Nobody(), "--out", "x", "--map", "cpu"}, "--map"},
      {{"push", "model.bin", Nobody()}, "FILE.safetensors"},
      {{"serve", "--name", "a"}, "--control HOST:PORT is missing"},
      {{"serve", "--name", "a", "--control", "127.0.0.1:0", "--data", "x:y"},
       "HOST:LOW-HIGH"},
      {{"list"}, "ADDRESS is missing"},
      {{"doctor", "me"}, "one word too many"},
      {{"bench", Nobody(), "--sizes", "big"}, "sizes"},
      {{"explain", Nobody(), "--direction", "up"}, "pull nor push"},
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
        Words{"pull", Nobody(), "--out", ::testing::TempDir() + "/x",
              "--json"}}) {
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
       {Words{"list", Nobody()}, Words{"describe", Nobody()},
        Words{"sessions", Nobody()}, Words{"explain", Nobody()},
        Words{"bench", Nobody()},
        Words{"pull", Nobody(), "--out",
              ::testing::TempDir() + "/never_written"}}) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 1);
    EXPECT_THAT(program.err(), HasSubstr("UNAVAILABLE"));
  }
}

TEST(CommandLineTest, AnAddressThatIsNoneIsAMistake) {
  for (const Words& words :
       {Words{"list", "nonsense"}, Words{"pull", "nonsense", "--out", "x"},
        Words{"push", "x.safetensors", "nonsense"},
        Words{"serve", "--name", "n", "--control", "nonsense"}}) {
    Program program(words);
    EXPECT_EQ(program.Wait(), 2);
    EXPECT_THAT(program.err(), HasSubstr("\"nonsense\""));
  }
}

TEST(CommandLineTest, OutputThatCannotBeWrittenIsAnError) {
  for (const Words& words : {Words{"--help"}, Words{"pull", "--help"},
                             Words{"doctor"}, Words{"doctor", "--json"}}) {
    Program program(words, {}, "/dev/full");
    EXPECT_EQ(program.Wait(), 1);
    EXPECT_THAT(program.err(), HasSubstr("cannot write to stdout"));
  }
}

TEST(CommandLineTest, AnotherFlagIsNoValue) {
  Program program({"list", Nobody(), "--bundle", "--json"});
  EXPECT_EQ(program.Wait(), 2);
  EXPECT_THAT(program.err(), HasSubstr("--bundle needs a value"));
}

TEST(CommandLineTest, VariablesMirrorFlags) {
  Program program({"pull", Nobody()},
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
