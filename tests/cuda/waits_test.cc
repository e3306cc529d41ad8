// Which calls wait for a device: a few of the first message over cuda_ipc, and
// no others. Each case in a process of its own, since what waits sets something
// up that a process has once.
#include <ATen/ops/full.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/child_peer.h"
#include "tests/cuda/ways.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildPeer;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::DropAll;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::OfferOf;
using ::tensorferry::testing::Way;
using ::tensorferry::testing::WriteLine;
using ::testing::ElementsAreArray;

constexpr int64_t kFloats = 10'000'000;  // more than all of the staging

std::string WaitsSoFar() {
  return absl::StrJoin(software_gpu::TakeSynchronisingCalls(), ", ",
                       absl::PairFormatter(" "));
}

int RunChild() {
  return testing::ServeAsChild(DropAll,
                               [](const std::string&) { return WaitsSoFar(); });
}

// The measuring process: a line for each step and process.
int Measure(const Way& way) {
  std::optional<ChildPeer> child;
  std::unique_ptr<Peer> far;
  if (way.processes == 2) {
    auto started = ChildPeer::Start();
    if (!started.ok()) return 1;
    child.emplace(*std::move(started));
  } else {
    far = *Peer::Create({.name = "far"});
    far->Accept(DropAll);
  }
  const at::Tensor tensor = at::full({kFloats}, 1, way.source());
  cudaDeviceSynchronize();
  WaitsSoFar();
  const auto say = [&](const std::string& step) {
    WriteLine(absl::StrCat(step, ": ", WaitsSoFar()));
    if (child) WriteLine(absl::StrCat(step, " there: ", child->Ask("waits")));
  };
  auto near = *Peer::Create({.name = "near", .control = ""});
  auto session = blocking::Connect(
      *near, child ? child->address() : far->control_address(), OfferOf(way),
      absl::Seconds(30));
  if (!session.ok()) return 1;
  say("open");
  for (const char* message : {"first", "second", "third"}) {
    auto sent = blocking::Send(**session, {.type = 1, .tensors = {tensor}});
    if (!sent.ok()) return 1;
    say(message);
  }
  return 0;
}

// As docs/cuda.md says. tensorpipe makes its staging when the first message is
// sent.
std::vector<std::string> AllWaits(const Way& way) {
  const bool staging = way.channel == "cuda_ipc";
  std::vector<std::string> waits;
  for (const std::string step : {"open", "first", "second", "third"}) {
    const bool now = staging && step == "first";
    waits.push_back(step + ": " + (now ? "cudaDeviceSynchronize 2" : ""));
    if (way.processes == 2) waits.push_back(step + " there: ");
  }
  return waits;
}

class WaitsTest : public ::testing::TestWithParam<Way> {};

TEST_P(WaitsTest, OnlyTheFirstMessageOverIpcWaits) {
  const Way& way = GetParam();
  auto child = ChildProcess::Start({"--measure", way.channel, way.there,
                                    way.wire, std::to_string(way.processes)});
  ASSERT_THAT(child, IsOk());
  std::vector<std::string> said;
  for (auto line = child->ReadLine(); line.ok(); line = child->ReadLine()) {
    said.push_back(*line);
  }
  EXPECT_EQ(child->Wait(), 0);
  EXPECT_THAT(said, ElementsAreArray(AllWaits(way)));
}

INSTANTIATE_TEST_SUITE_P(InOneProcess, WaitsTest,
                         ::testing::ValuesIn(testing::WaysInOneProcess()),
                         testing::NameOf);
INSTANTIATE_TEST_SUITE_P(InTwoProcesses, WaitsTest,
                         ::testing::ValuesIn(testing::WaysInTwoProcesses()),
                         testing::NameOf);

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (!args.empty() && args[0] == tensorferry::testing::kChildPeer) {
    return tensorferry::testing::EndChild(tensorferry::RunChild());
  }
  if (args.size() == 5 && args[0] == "--measure") {
    return tensorferry::testing::EndChild(
        tensorferry::Measure({args[1], args[2], args[3], std::stoi(args[4])}));
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
