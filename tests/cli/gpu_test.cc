// The command with //cuda, on the software GPU, and the one without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/program.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace {

using ::nlohmann::json;
using ::tensorferry::testing::Program;
using ::tensorferry::testing::Words;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Variables = std::map<std::string, std::string>;

json RunJson(Words words, const Variables& variables = {}) {
  words.push_back("--json");
  Program program(words, variables);
  EXPECT_EQ(program.Wait(), 0) << program.err();
  json object = json::parse(program.out(), nullptr, false);
  EXPECT_TRUE(object.is_object()) << program.out();
  return object;
}

std::string BytesOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string RunText(const Words& words) {
  Program program(words);
  EXPECT_EQ(program.Wait(), 0) << program.err();
  return program.out();
}

// What `doctor` found of one thing; null: nothing.
json Finding(const json& doctor, const std::string& what) {
  for (const json& finding : doctor["findings"]) {
    if (finding["what"] == what) return finding;
  }
  return nullptr;
}

void ExpectBothGpus(const json& devices) {
  ASSERT_EQ(devices.size(), 3u) << devices;
  EXPECT_EQ(devices[0]["id"], "cpu");
  EXPECT_EQ(devices[0]["reaches"], json::array());
  for (int index : {0, 1}) {
    const json& gpu = devices[index + 1];
    EXPECT_EQ(gpu["id"], "cuda:" + std::to_string(index));
    EXPECT_EQ(gpu["name"], "Software GPU " + std::to_string(index));
    EXPECT_THAT(gpu["uuid"].get<std::string>(), StartsWith("GPU-"));
    EXPECT_GT(gpu["free_bytes"], 0u);
    EXPECT_LE(gpu["free_bytes"], gpu["total_bytes"]);
    EXPECT_EQ(gpu["reaches"],
              json::array({"cuda:" + std::to_string(1 - index)}));
    EXPECT_EQ(gpu["driver"], "13.2");
    EXPECT_EQ(gpu["runtime"], "13.2");
    EXPECT_EQ(gpu["carried_as"], "");
  }
}

TEST(GpuTest, DoctorShowsEachGpuAndThatTensorsCanBeOnIt) {
  const json doctor = RunJson({"doctor"});
  ExpectBothGpus(doctor["devices"]);
  EXPECT_EQ(Finding(doctor, "gpu")["level"], "good");
  EXPECT_EQ(Finding(doctor, "gpu")["found"], "CUDA driver for 13.2, 2 GPUs");
  EXPECT_THAT(Finding(doctor, "cuda:1")["found"].get<std::string>(),
              AllOf(HasSubstr("Software GPU 1"), HasSubstr("GPU-"),
                    HasSubstr("4.0 GiB free of 4.0 GiB"),
                    HasSubstr("driver 13.2, runtime 13.2"),
                    HasSubstr("reaches cuda:0")));
  EXPECT_THAT(RunText({"doctor"}), HasSubstr("good     cuda:0"));
}

TEST(GpuTest, DoctorKnowsOnlyTheGpusThatAreVisible) {
  const json doctor = RunJson({"doctor"}, {{"CUDA_VISIBLE_DEVICES", "1"}});
  EXPECT_THAT(Finding(doctor, "cuda:0")["found"].get<std::string>(),
              HasSubstr("Software GPU 1"));
  EXPECT_EQ(Finding(doctor, "cuda:1"), nullptr);
}

TEST(GpuTest, NoGpuIsANoteAndTheRestIsShown) {
  const json doctor = RunJson({"doctor"}, {{"SOFTWARE_GPU_DEVICES", "0"}});
  EXPECT_EQ(doctor["devices"].size(), 1u);
  EXPECT_EQ(Finding(doctor, "gpu")["level"], "note");
  EXPECT_THAT(Finding(doctor, "gpu")["found"].get<std::string>(),
              HasSubstr("no GPU"));
  EXPECT_EQ(Finding(doctor, "cuda:0"), nullptr);
}

// Ends badly if it has left something, or misused a GPU.
void ExpectToEndWell(Program& server) {
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0) << server.err();
}

TEST(GpuTest, DescribeShowsTheGpusOfAPeer) {
  Program server({"serve", "--name", "gpus", "--control", "127.0.0.1:0"});
  const std::string address = server.AwaitLog(" is ready at ");
  ASSERT_THAT(address, Not(IsEmpty())) << server.err();
  const json described = RunJson({"describe", address});
  ExpectBothGpus(described["devices"]);
  const std::string uuid = described["devices"][2]["uuid"];
  EXPECT_EQ(described["process_id"], server.pid());
  for (const json& path : described["paths"]) {
    const std::string name = path["name"];
    EXPECT_EQ(path["opens_device"], name == "unix/cuda_ipc") << path;
    EXPECT_EQ(path["only_if_named"], name.ends_with("/cuda_gdr")) << path;
  }
  EXPECT_THAT(RunText({"describe", address}),
              AllOf(HasSubstr(", process " + std::to_string(server.pid())),
                    HasSubstr("unix/cuda_ipc   cuda to cuda, opens the other's "
                              "device"),
                    HasSubstr("unix/cuda_gdr   cuda to cuda, only if named")));
  EXPECT_THAT(RunText({"describe", address}),
              AllOf(HasSubstr("device    cuda:1   Software GPU 1, "),
                    HasSubstr(uuid + ", driver 13.2, runtime 13.2, reaches "
                                     "cuda:0\n")));
  ExpectToEndWell(server);
}

TEST(GpuTest, AGpuPullsFromTheCommandWithoutCudaThroughHostMemory) {
  const std::string cuda_program = std::getenv("TENSORFERRY_PROGRAM");
  const testing::TestFolder folder;
  const std::string model = std::getenv("MODEL");
  setenv("TENSORFERRY_PROGRAM", std::getenv("PLAIN_PROGRAM"), 1);
  Program server({"serve", "--name", "plain", "--control", "127.0.0.1:0",
                  "--publish", model});
  setenv("TENSORFERRY_PROGRAM", cuda_program.c_str(), 1);
  const std::string address = server.AwaitLog(" is ready at ");
  ASSERT_THAT(address, Not(IsEmpty())) << server.err();
  const json pulled = RunJson({"pull", address, "--map", "cpu=cuda:0", "--out",
                               folder.Path("copy.safetensors")});
  EXPECT_GT(pulled["tensors"], 100);
  EXPECT_THAT(pulled["path"].get<std::string>(), HasSubstr("unix/local"));
  EXPECT_TRUE(BytesOf(folder.Path("copy.safetensors")) == BytesOf(model));
  EXPECT_THAT(RunText({"explain", address, "--map", "cpu=cuda:0"}),
              AllOf(HasSubstr("paths cuda:0 - cpu: unix/local, unix/basic, "),
                    HasSubstr(" (through host memory)\n"),
                    HasSubstr("not unix/cuda_basic: callee \"plain\" does not "
                              "have it for")));
}

TEST(GpuTest, WhatATypeOfAThirdPartysCrossesAsIsShown) {
  setenv("TENSORFERRY_PROGRAM", std::getenv("TOY_GPU_PROGRAM"), 1);
  const json doctor = RunJson({"doctor"});
  ASSERT_EQ(doctor["devices"].size(), 5u) << doctor;
  EXPECT_EQ(doctor["devices"][4]["id"], "privateuseone:1");
  EXPECT_EQ(doctor["devices"][4]["carried_as"], "cuda:1");
  EXPECT_THAT(Finding(doctor, "privateuseone:1")["found"].get<std::string>(),
              HasSubstr(", crosses as cuda:1, "));
  Program server({"serve", "--name", "gpus", "--control", "127.0.0.1:0"});
  const std::string address = server.AwaitLog(" is ready at ");
  ASSERT_THAT(address, Not(IsEmpty())) << server.err();
  const json described = RunJson({"describe", address});
  ASSERT_EQ(described["devices"].size(), 5u) << described;
  EXPECT_EQ(described["devices"][4]["carried_as"], "cuda:1");
  EXPECT_THAT(RunText({"describe", address}),
              HasSubstr(", crosses as cuda:1, "));
  ExpectToEndWell(server);
}

TEST(GpuTest, TheCommandWithoutCudaSaysSoAndNeedsNone) {
  setenv("TENSORFERRY_PROGRAM", std::getenv("PLAIN_PROGRAM"), 1);
  const json doctor = RunJson({"doctor"});
  EXPECT_EQ(doctor["devices"].size(), 1u);
  EXPECT_EQ(Finding(doctor, "gpu")["level"], "note");
  EXPECT_THAT(Finding(doctor, "gpu")["meaning"].get<std::string>(),
              HasSubstr("tensorferry_cuda"));
}

}  // namespace
}  // namespace tensorferry
