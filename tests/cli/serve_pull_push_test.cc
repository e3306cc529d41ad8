// The real program as two and more processes, with a real model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "catalog/pull.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cli/program.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace {

using nlohmann::json;
using ::tensorferry::testing::Program;
using ::tensorferry::testing::Words;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "(none)";
  std::string bytes(file.tellg(), '\0');
  file.seekg(0).read(bytes.data(), bytes.size());
  return bytes;
}

// A file of one U8 tensor.
void WriteSmallFile(const std::string& path, const std::string& tensor,
                    const std::string& data) {
  std::string header =
      absl::StrCat("{\"", tensor, "\":{\"dtype\":\"U8\",\"shape\":[",
                   data.size(), "],\"data_offsets\":[0,", data.size(), "]}}");
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  std::ofstream(path, std::ios::binary) << length << header << data;
}

class ServePullPushTest : public ::testing::Test,
                          protected testing::TestFolder {
 protected:
  void SetUp() override {
    std::filesystem::copy_file(std::getenv("MODEL"), Path("model.safetensors"));
  }

  // Starts `serve` with `more` flags and waits until it is ready.
  void Serve(const Words& more) {
    Words words = {"serve",       "--name",       "store",      "--control",
                   "127.0.0.1:0", "--ready_file", Path("ready")};
    words.insert(words.end(), more.begin(), more.end());
    server_ = std::make_unique<Program>(words);
    address_ = server_->AwaitLog(" is ready at ");
    ASSERT_THAT(address_, Not(IsEmpty())) << server_->err();
  }

  // Runs a command that should end with `code`, and returns its JSON.
  json RunJson(Words words, int code = 0) {
    words.push_back("--json");
    Program program(words);
    EXPECT_EQ(program.Wait(), code) << program.err();
    json object = json::parse(program.out(), nullptr, false);
    EXPECT_TRUE(object.is_object()) << program.out();
    EXPECT_EQ(object["status"] == "OK", code == 0) << object;
    return object;
  }

  std::unique_ptr<Program> server_;
  std::string address_;
};

TEST_F(ServePullPushTest, TheReadyFileIsTheAddressOnOneLine) {
  Serve({"--data", "localhost:20000-29999"});
  EXPECT_EQ(ReadBytes(Path("ready")), address_ + "\n");
}

TEST_F(ServePullPushTest, AModelIsListedPulledAndTheSameFile) {
  Serve({"--publish", Path("model.safetensors")});
  const json listed = RunJson({"list", address_});
  ASSERT_EQ(listed["bundles"].size(), 1u);
  EXPECT_EQ(listed["bundles"][0]["name"], "model");
  EXPECT_EQ(listed["bundles"][0]["version"], 1);
  const size_t tensors = listed["bundles"][0]["tensors"].size();

  const json pulled =
      RunJson({"pull", address_, "--out", Path("copy.safetensors")});
  EXPECT_EQ(pulled["tensors"], tensors);
  EXPECT_EQ(pulled["version"], 1);
  EXPECT_GE(pulled["bytes"], listed["bundles"][0]["bytes"]);
  EXPECT_GT(pulled["seconds"], 0);
  EXPECT_THAT(pulled["digest"].get<std::string>(), Not(IsEmpty()));
  EXPECT_THAT(pulled["path"].get<std::string>(), HasSubstr("unix/"));
  EXPECT_TRUE(ReadBytes(Path("copy.safetensors")) ==
              ReadBytes(Path("model.safetensors")));
  const json again =
      RunJson({"pull", address_, "--out", Path("copy.safetensors")});
  EXPECT_EQ(again["digest"], pulled["digest"]);
}

TEST_F(ServePullPushTest, WithoutAPoolNothingIsCopiedIntoOne) {
  Serve({"--publish", Path("model.safetensors")});
  const Words pull = {"pull", address_, "--out", Path("copy.safetensors")};
  EXPECT_EQ(RunJson(pull)["path"], "unix/local/pool");
  Words without = pull;
  without.insert(without.end(), {"--pool_bytes", "0"});
  EXPECT_THAT(RunJson(without)["path"].get<std::string>(),
              AllOf(HasSubstr("unix/local/"), Not(HasSubstr("pool"))));
}

TEST_F(ServePullPushTest, APullIsToldToPeopleToo) {
  Serve({"--publish", Path("model.safetensors")});
  Program pull({"pull", address_, "--out", Path("copy.safetensors"), "--digest",
                "off", "--path", "unix/basic", "--names", "embeddings.*"});
  EXPECT_EQ(pull.Wait(), 0) << pull.err();
  EXPECT_THAT(pull.out(), AllOf(HasSubstr("model version 1"),
                                HasSubstr("unix/basic"), HasSubstr("off")));
  EXPECT_THAT(pull.err(), IsEmpty());  // no terminal, no progress
  EXPECT_THAT(server_->AwaitLog("pull of all by "), HasSubstr("MiB"));
}

TEST_F(ServePullPushTest, APushedFileIsTheNextVersionAndTheSameFile) {
  std::filesystem::create_directory(Path("inbox"));
  Serve({"--accept", Path("inbox"), "--publish", Path("model.safetensors")});
  const json pushed = RunJson({"push", Path("model.safetensors"), address_});
  EXPECT_EQ(pushed["version"], 2);
  EXPECT_GT(pushed["tensors"], 100);
  EXPECT_GE(pushed["bytes"], 80'000'000);
  EXPECT_THAT(pushed["digest"].get<std::string>(), Not(IsEmpty()));
  EXPECT_THAT(pushed["path"].get<std::string>(), HasSubstr("unix/"));
  EXPECT_TRUE(ReadBytes(Path("inbox/model.safetensors")) ==
              ReadBytes(Path("model.safetensors")));
  const json pulled =
      RunJson({"pull", address_, "--out", Path("copy.safetensors")});
  EXPECT_EQ(pulled["version"], 2);
  EXPECT_TRUE(ReadBytes(Path("copy.safetensors")) ==
              ReadBytes(Path("model.safetensors")));
}

TEST_F(ServePullPushTest, ANameThatTwoBundlesHaveMustBeChosen) {
  WriteSmallFile(Path("a.safetensors"), "w", "aaaa");
  WriteSmallFile(Path("b.safetensors"), "w", "bbbb");
  WriteSmallFile(Path("c.safetensors"), "v", "cccc");
  Serve({"--publish", Path("a.safetensors"), "--publish", Path("b.safetensors"),
         "--publish", Path("c.safetensors")});
  const std::string out = Path("out.safetensors");
  const json refused = RunJson({"pull", address_, "--out", out}, 1);
  EXPECT_EQ(refused["status"], "INVALID_ARGUMENT");
  EXPECT_THAT(refused["message"].get<std::string>(), HasSubstr("\"w\""));
  EXPECT_FALSE(std::filesystem::exists(out));
  RunJson({"pull", address_, "--out", out, "--bundle", "b"});
  EXPECT_EQ(ReadBytes(out), ReadBytes(Path("b.safetensors")));
  const json several =
      RunJson({"pull", address_, "--out", out, "--names", "v"});
  EXPECT_EQ(several["version"], 1);
}

TEST_F(ServePullPushTest, ErrorsOfThePeerAreTheCommands) {
  const std::string file = Path("a.safetensors");
  const std::string out = Path("out.safetensors");
  WriteSmallFile(file, "w", "aaaa");
  Serve({"--publish", file});
  const auto status = [this](const Words& words) {
    return RunJson(words, 1)["status"];
  };
  const auto pull = [&](const std::string& flag, const std::string& value) {
    return status({"pull", address_, "--out", out, flag, value});
  };
  EXPECT_EQ(pull("--bundle", "x"), "NOT_FOUND");
  EXPECT_EQ(pull("--names", "x"), "NOT_FOUND");
  EXPECT_EQ(pull("--map", "cpu=cuda:0"), "INVALID_ARGUMENT");
  EXPECT_EQ(pull("--path", "unix/pigeon"), "FAILED_PRECONDITION");
  EXPECT_EQ(status({"list", address_, "--bundle", "x"}), "NOT_FOUND");
  EXPECT_EQ(status({"push", file, address_}), "PERMISSION_DENIED");
  EXPECT_EQ(status({"push", Path("none.safetensors"), address_}), "NOT_FOUND");
  EXPECT_EQ(status({"pull", address_, "--out", Path("no/where")}), "NOT_FOUND");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(ServePullPushTest, APeerIsDescribedExplainedAndItsSessionsListed) {
  Serve({});
  const json described = RunJson({"describe", address_});
  EXPECT_EQ(described["name"], "store");
  EXPECT_EQ(described["limits"]["rank"], 64);
  EXPECT_EQ(described["limits"]["body_lanes"], 4);
  EXPECT_EQ(RunJson({"sessions", address_})["sessions"].size(), 0u);
  const json explained = RunJson({"explain", address_});
  EXPECT_EQ(explained["callee"], "store");
  EXPECT_EQ(explained["objections"].size(), 0u);
  ASSERT_GE(explained["paths"].size(), 1u);
  EXPECT_GE(explained["paths"][0]["ranked"].size(), 1u);
  const json refused = RunJson({"explain", address_, "--map", "cpu=cuda:0"}, 1);
  EXPECT_GE(refused["objections"].size(), 1u);
}

TEST_F(ServePullPushTest, BenchMeasuresBothWays) {
  Serve({});
  const json bench =
      RunJson({"bench", address_, "--sizes", "1KiB,1MiB", "--time", "10ms"});
  ASSERT_EQ(bench["results"].size(), 4u);
  for (const json& result : bench["results"]) {
    EXPECT_GT(result["gb_per_second"], 0);
    EXPECT_GE(result["p99_seconds"], result["p50_seconds"]);
  }
}

TEST_F(ServePullPushTest, SigtermEndsItWithZero) {
  for (int signal : {SIGTERM, SIGINT}) {
    Serve({});
    server_->Signal(signal);
    EXPECT_EQ(server_->Wait(), 0) << server_->err();
  }
}

// A file of one tensor of `size` zero bytes, most of it a hole.
void WriteLargeFile(const std::string& path, uint64_t size) {
  WriteSmallFile(path, "w", "");
  std::string header =
      absl::StrCat("{\"w\":{\"dtype\":\"U8\",\"shape\":[", size,
                   "],\"data_offsets\":[0,", size, "]}}");
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  std::ofstream(path, std::ios::binary) << length << header;
  std::filesystem::resize_file(path, length.size() + header.size() + size);
}

TEST_F(ServePullPushTest, APullThatIsUnderWayOutlivesSigterm) {
  constexpr uint64_t kSize = 256 << 20;
  WriteLargeFile(Path("large.safetensors"), kSize);
  Serve({"--drain", "10m", "--publish", Path("large.safetensors")});
  auto peer = Peer::Create({.name = "reader", .control = ""});
  ASSERT_TRUE(peer.ok());
  auto session = blocking::Connect(**peer, address_, {}, absl::Seconds(60));
  ASSERT_TRUE(session.ok()) << session.status();
  absl::Notification ended;
  absl::StatusOr<Pulled> pulled;
  Pull(*session, {.bundle = "large"}, [&](absl::StatusOr<Pulled> result) {
    pulled = std::move(result);
    ended.Notify();
  });
  while ((*session)->counters().bytes_received == 0 &&
         !ended.HasBeenNotified()) {
    std::this_thread::yield();
  }
  server_->Signal(SIGTERM);
  ended.WaitForNotification();
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->contents.tensors[0].numel(), static_cast<int64_t>(kSize));
  session->reset();
  EXPECT_EQ(server_->Wait(), 0) << server_->err();
}

TEST_F(ServePullPushTest, AReadyFileOfAnEarlierServerIsNotBelieved) {
  std::ofstream(Path("ready")) << "127.0.0.1:1\n";
  EXPECT_EQ(RunJson({"serve", "--name", "n", "--control", "0.0.0.0:0",
                     "--ready_file", Path("ready")},
                    1)["status"],
            "INVALID_ARGUMENT");
  EXPECT_FALSE(std::filesystem::exists(Path("ready")));
  Serve({});
  EXPECT_EQ(ReadBytes(Path("ready")), address_ + "\n");
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->err();
  EXPECT_FALSE(std::filesystem::exists(Path("ready")));
}

TEST_F(ServePullPushTest, AnothersReadyFileIsLeftAlone) {
  Serve({});
  std::ofstream(Path("ready")) << "127.0.0.1:1\n";
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->err();
  EXPECT_EQ(ReadBytes(Path("ready")), "127.0.0.1:1\n");
}

TEST_F(ServePullPushTest, PushedFilesArePublishedAgainAfterARestart) {
  std::filesystem::create_directory(Path("inbox"));
  WriteSmallFile(Path("a.safetensors"), "w", "aaaa");
  std::ofstream(Path("inbox/bad.safetensors")) << "nonsense";
  Serve({"--accept", Path("inbox")});
  EXPECT_EQ(RunJson({"push", Path("a.safetensors"), address_})["version"], 1);
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->err();
  EXPECT_THAT(server_->err(), HasSubstr("not publishing "));
  Serve({"--accept", Path("inbox")});
  RunJson({"pull", address_, "--out", Path("out.safetensors")});
  EXPECT_EQ(ReadBytes(Path("out.safetensors")),
            ReadBytes(Path("a.safetensors")));
  EXPECT_EQ(RunJson({"push", Path("a.safetensors"), address_})["version"], 2);
}

TEST_F(ServePullPushTest, AFileThatAnotherPutIntoTheInboxIsNotReplaced) {
  std::filesystem::create_directory(Path("inbox"));
  WriteSmallFile(Path("a.safetensors"), "w", "aaaa");
  Serve({"--accept", Path("inbox")});
  WriteSmallFile(Path("inbox/a.safetensors"), "w", "bbbb");
  const json refused = RunJson({"push", Path("a.safetensors"), address_}, 1);
  EXPECT_EQ(refused["status"], "ALREADY_EXISTS");
  EXPECT_THAT(ReadBytes(Path("inbox/a.safetensors")), HasSubstr("bbbb"));
  EXPECT_THAT(server_->AwaitLog("push a by "), HasSubstr("ALREADY_EXISTS"));
}

TEST_F(ServePullPushTest, AFileThatIsWrittenIntoIsNotServedUnlessCopied) {
  const std::string file = Path("a.safetensors");
  const Words pull_words = {"pull", "", "--out", Path("out.safetensors")};
  const auto pull = [&](int code) {
    Words words = pull_words;
    words[1] = address_;
    return RunJson(words, code)["status"];
  };
  WriteSmallFile(file, "w", "aaaa");
  Serve({"--publish", file});
  EXPECT_EQ(pull(0), "OK");
  WriteSmallFile(file, "w", "bbbbbb");
  EXPECT_EQ(pull(1), "FAILED_PRECONDITION");
  Serve({"--publish", file, "--copy"});
  WriteSmallFile(file, "w", "cc");
  EXPECT_EQ(pull(0), "OK");
  EXPECT_THAT(ReadBytes(Path("out.safetensors")), HasSubstr("bbbbbb"));
}

TEST_F(ServePullPushTest, ItServesOnWhenNobodyReadsItsLog) {
  WriteSmallFile(Path("a.safetensors"), "w", "aaaa");
  Serve({"--publish", Path("a.safetensors")});
  server_->CloseErr();
  for (int i = 0; i < 2; ++i) {
    RunJson({"pull", address_, "--out", Path("out.safetensors")});
  }
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
}

TEST_F(ServePullPushTest, NamesInTheLogBeginNoLine) {
  Serve({});
  RunJson({"pull", address_, "--out", Path("out.safetensors"), "--bundle",
           "a\npush b by c: OK"},
          1);
  EXPECT_THAT(server_->AwaitLog("pull "), HasSubstr("a\\npush b by c"));
}

TEST_F(ServePullPushTest, BenchOfMoreThanThereIsMemoryIsResourceExhausted) {
  Serve({});
  EXPECT_EQ(RunJson({"bench", address_, "--sizes", "1024GiB"}, 1)["status"],
            "RESOURCE_EXHAUSTED");
}

TEST_F(ServePullPushTest, WhatCannotBeServedIsSaidAtOnce) {
  const auto serve = [this](Words more) {
    Words words = {"serve", "--name", "n", "--control", "127.0.0.1:0"};
    words.insert(words.end(), more.begin(), more.end());
    return RunJson(words, 1)["status"];
  };
  EXPECT_EQ(serve({"--publish", Path("none.safetensors")}), "NOT_FOUND");
  EXPECT_EQ(serve({"--accept", Path("none")}), "NOT_FOUND");
  EXPECT_EQ(serve({"--accept", Path("model.safetensors")}), "INVALID_ARGUMENT");
  EXPECT_EQ(serve({"--data", "8.8.8.8"}), "INVALID_ARGUMENT");
  EXPECT_EQ(serve({"--ready_file", Path("no/where")}), "NOT_FOUND");
  std::ofstream(Path("bad.safetensors")) << "nonsense";
  EXPECT_EQ(serve({"--publish", Path("bad.safetensors")}), "INVALID_ARGUMENT");
  EXPECT_EQ(
      RunJson({"serve", "--name", "n", "--control", "0.0.0.0:0"}, 1)["status"],
      "INVALID_ARGUMENT");
}

}  // namespace
}  // namespace tensorferry
