// The real program, among callers that are told apart, and among too many.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/cli/program.h"
#include "tests/testing/certificates.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace {

using nlohmann::json;
using ::tensorferry::testing::CertificateAuthority;
using ::tensorferry::testing::Program;
using ::tensorferry::testing::Words;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Two tensors of one byte, "encoder.w" and "decoder.w".
void WriteModel(const std::string& path) {
  const std::string header =
      R"({"decoder.w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
      R"("encoder.w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  std::ofstream(path, std::ios::binary) << length << header << "de";
}

class CommandSecurityTest : public ::testing::Test,
                            protected testing::TestFolder {
 protected:
  void SetUp() override {
    WriteModel(Path("model.safetensors"));
    WriteModel(Path("private.safetensors"));
    std::filesystem::create_directory(Path("inbox"));
  }

  void Serve(const Words& more) {
    Words words = {"serve", "--name", "store", "--control", "127.0.0.1:0"};
    words.insert(words.end(), more.begin(), more.end());
    server_ = std::make_unique<Program>(words);
    address_ = server_->AwaitLog(" is ready at ");
    ASSERT_THAT(address_, Not(IsEmpty())) << server_->err();
  }
  // Runs a command and returns its JSON.
  json Run(Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    words.push_back("--json");
    Program program(words);
    program.Wait();
    json object = json::parse(program.out(), nullptr, false);
    EXPECT_TRUE(object.is_object()) << program.out() << program.err();
    return object;
  }

  std::unique_ptr<Program> server_;
  std::string address_;
};

TEST_F(CommandSecurityTest, APolicyOverMutualTlsGivesWhatItSaysAndNoMore) {
  const CertificateAuthority ca("ca");
  ca.WriteCertificate(Path("ca.pem"));
  ca.Issue("store", "IP:127.0.0.1", Path("store.pem"), Path("store.key"));
  ca.Issue("reader", "DNS:reader.example", Path("me.pem"), Path("me.key"));
  Write("policy", R"(
      rules { who: "cert:reader.example" sessions: 4 list { bundle: "model" }
              pull { bundle: "model" names: "encoder.*" } devices: "cpu" })");
  Serve({"--publish", Path("model.safetensors"), "--publish",
         Path("private.safetensors"), "--accept", Path("inbox"), "--tls_cert",
         Path("store.pem"), "--tls_key", Path("store.key"), "--tls_client_ca",
         Path("ca.pem"), "--policy", Path("policy")});
  const Words me = {"--tls_ca",     Path("ca.pem"), "--tls_cert",
                    Path("me.pem"), "--tls_key",    Path("me.key")};

  const json listed = Run({"list", address_}, me);
  ASSERT_EQ(listed["bundles"].size(), 1u) << listed;
  EXPECT_EQ(listed["bundles"][0]["name"], "model");

  const Words pull = {"pull", address_, "--out", Path("out.safetensors")};
  const json refused = Run(pull, me);
  EXPECT_EQ(refused["status"], "PERMISSION_DENIED");
  EXPECT_THAT(refused["message"].get<std::string>(),
              AllOf(HasSubstr("cert:reader.example may not pull"),
                    HasSubstr("decoder.w")));
  Words narrowed = pull;
  narrowed.insert(narrowed.end(), {"--names", "encoder.*"});
  EXPECT_EQ(Run(narrowed, me)["tensors"], 1);
  EXPECT_THAT(server_->AwaitLog("(cert:reader.example): "), Not(IsEmpty()));
  Words hidden = pull;
  hidden.insert(hidden.end(), {"--bundle", "private"});
  EXPECT_EQ(Run(hidden, me)["status"], "PERMISSION_DENIED");

  const Words push = {"push", Path("model.safetensors"), address_};
  EXPECT_EQ(Run(push, me)["status"], "PERMISSION_DENIED");
  EXPECT_FALSE(std::filesystem::exists(Path("inbox/model.safetensors")));
  EXPECT_EQ(Run({"describe", address_}, me)["status"], "PERMISSION_DENIED");
  EXPECT_EQ(Run({"sessions", address_}, me)["status"], "OK");
  EXPECT_EQ(Run({"list", address_}, {})["status"], "UNAVAILABLE");

  // More is given while it serves.
  Write("policy", R"(
      rules { who: "cert:*" sessions: 4 pull {} push {} devices: "*" })");
  EXPECT_EQ(Run(push, me)["status"], "OK");
  server_->AwaitLog("/policy again");
}

TEST_F(CommandSecurityTest, ATokenMayComeFromTheEnvironmentsFile) {
  Write("tokens",
        "ci 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
  Write("token", "secret");
  Serve({"--token_file", Path("tokens")});
  EXPECT_EQ(Run({"list", address_}, {})["status"], "UNAUTHENTICATED");
  Program program({"list", address_},
                  {{"TENSORFERRY_TOKEN_FILE", Path("token")}});
  EXPECT_EQ(program.Wait(), 0) << program.err();
}

TEST_F(CommandSecurityTest, MistakesInFilesAndFlagsAreSaidAtOnce) {
  Write("policy", "rules {\n  who: \"ci\"\n}\n");
  const auto serve = [this](Words more) {
    Words words = {"serve", "--name", "n", "--control", "127.0.0.1:0"};
    words.insert(words.end(), more.begin(), more.end());
    return Run(words, {});
  };
  EXPECT_THAT(serve({"--policy", Path("policy")})["message"].get<std::string>(),
              HasSubstr("policy:2:3: who: "));
  EXPECT_THAT(serve({"--limit", "warp=9"})["message"].get<std::string>(),
              AllOf(HasSubstr("no limit \"warp\""), HasSubstr("rank"),
                    HasSubstr("catalog_entries")));
  EXPECT_THAT(serve({"--limit", "sessions=5000"})["message"].get<std::string>(),
              HasSubstr("--limit sessions is 5000, want 1 to 4096"));
  EXPECT_THAT(serve({"--limit", "rank"})["message"].get<std::string>(),
              HasSubstr("NAME=VALUE"));
  EXPECT_THAT(serve({"--unix_mode", "9"})["message"].get<std::string>(),
              HasSubstr("--unix_mode"));
  EXPECT_THAT(serve({"--data", "192.0.2.1"})["message"].get<std::string>(),
              HasSubstr("--tls_client_ca"));
}

TEST_F(CommandSecurityTest, ALimitThatIsPassedIsNamed) {
  const std::vector<std::string> limits = {"tensors=1", "message_bytes=1",
                                           "name_bytes=2"};
  for (const std::string& limit : limits) {
    Serve({"--publish", Path("model.safetensors"), "--limit", limit});
    const json refused = Run({"pull", address_, "--out", Path("out")}, {});
    EXPECT_EQ(refused["status"], "RESOURCE_EXHAUSTED") << limit << refused;
    EXPECT_THAT(refused["message"].get<std::string>(),
                HasSubstr(limit.substr(0, limit.find('='))));
  }
  Serve({"--publish", Path("model.safetensors"), "--accept", Path("inbox"),
         "--limit", "catalog_entries=1"});
  const json refused = Run({"push", Path("private.safetensors"), address_}, {});
  EXPECT_EQ(refused["status"], "RESOURCE_EXHAUSTED");
  EXPECT_THAT(refused["message"].get<std::string>(),
              HasSubstr("catalog_entries"));
}

TEST_F(CommandSecurityTest, WithoutDescriptorsEachCallerEndsAndNobodyDies) {
  Serve({"--publish", Path("model.safetensors")});
  const rlimit few = {64, 64};
  ASSERT_EQ(prlimit(server_->pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  std::vector<std::unique_ptr<Program>> callers;
  for (int i = 0; i < 24; ++i) {
    callers.push_back(std::make_unique<Program>(
        Words{"pull", address_, "--out", Path(absl::StrCat("out", i)), "--json",
              "--deadline", "2m"}));
  }
  int served = 0;
  for (const auto& caller : callers) {
    caller->Wait();
    const json object = json::parse(caller->out(), nullptr, false);
    ASSERT_TRUE(object.is_object()) << caller->err();
    if (object["status"] == "OK") {
      ++served;
      continue;
    }
    EXPECT_EQ(object["status"], "RESOURCE_EXHAUSTED") << object;
    EXPECT_THAT(object["message"].get<std::string>(),
                HasSubstr("descriptor budget"));
  }
  EXPECT_GT(served, 0);
  EXPECT_EQ(Run({"list", address_}, {})["status"], "OK");
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->err();
}

}  // namespace
}  // namespace tensorferry
