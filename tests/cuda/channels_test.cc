// tensorpipe's CUDA channels as sessions share them, over the hub's unix
// sockets, in one process and in two.

#include "cuda/channels.h"

#include <ATen/ops/equal.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cuda/devices.h"
#include "cuda/ipc_packets.h"
#include "tests/cuda/carry.h"
#include "tests/cuda/channel_fixture.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/lying_channel.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "transfer/paths.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::ReadOn;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::WriteLine;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kSmall = 1000;
constexpr int64_t kLarge = 20'000'000;  // 80 MB: many chunks of every channel

std::optional<CUDAStream> NewStream(int device) {
  return getStreamFromPool(false, static_cast<c10::DeviceIndex>(device));
}

class ChannelsTest : public software_gpu::SoftwareGpuTorchTest {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    here_.emplace();
    there_.emplace();
  }
  void TearDown() override {
    here_.reset();
    there_.reset();
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  Station& here() { return *here_; }
  Station& there() { return *there_; }

 private:
  // Two endpoints of this process.
  std::optional<Station> here_, there_;
};

// One process.

class OneProcessTest : public ChannelsTest,
                       public ::testing::WithParamInterface<std::string> {};

TEST_P(OneProcessTest, TensorsGoFromDeviceToDevice) {
  Session session(here(), there(), "a", "unix/" + GetParam());
  for (const int64_t size : {kSmall, kLarge}) {
    const at::Tensor values = Numbers(size, 1);
    const auto carried = session.Carry(values);
    ASSERT_THAT(carried, IsOk());
    EXPECT_TRUE(at::equal(*carried, values));
  }
}

TEST_P(OneProcessTest, IsTakenForPairsOfGpusAndNotForTheHost) {
  Session session(here(), there(), "a", "unix/" + GetParam());
  const auto peer = session.receiver.lanes().Describe();
  EXPECT_EQ(session.sender.lanes().ChannelTo({"cuda", 0}, {"cuda", 1}, peer),
            GetParam());
  EXPECT_EQ(session.sender.lanes().ChannelTo({"cpu", 0}, {"cpu", 0}, peer),
            "basic");
}

TEST_P(OneProcessTest, ClosingASessionLeavesAnotherOnesTransferGoing) {
  std::optional<Session> closed(std::in_place, here(), there(), "a",
                                "unix/" + GetParam());
  Session kept(here(), there(), "b", "unix/" + GetParam());
  const at::Tensor values = Numbers(kSmall, 7);
  EXPECT_THAT(closed->Carry(values), IsOk());

  const CUDAStream stream = *NewStream(0), to = *NewStream(1);
  const at::Tensor tensor = MadeOn(stream, values);
  software_gpu::Hold(stream);
  const Carrying sent = kept.sender.Send(tensor, stream, Cuda(1));
  closed.reset();
  Side::Arrival arrival = kept.receiver.Receive(to);
  software_gpu::Release(stream);
  const auto there_now = arrival.Wait();
  ASSERT_THAT(there_now, IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_TRUE(at::equal(ReadOn(to, *there_now), values));
}

TEST_P(OneProcessTest, ClosingEndsWhatNobodyReceives) {
  Session session(here(), there(), "a", "unix/" + GetParam());
  const CUDAStream stream = *NewStream(0);
  const at::Tensor tensor = MadeOn(stream, Numbers(kSmall, 1));
  const Carrying sent = session.sender.Send(tensor, stream, Cuda(1));
  session.sender.lanes().context->close();
  session.sender.lanes().context->join();
  EXPECT_TRUE(sent.ended());
}

INSTANTIATE_TEST_SUITE_P(Channels, OneProcessTest,
                         ::testing::Values("cuda_xth", "cuda_basic"),
                         [](const auto& info) { return info.param; });

TEST_F(ChannelsTest, BasicCarriesBetweenHostAndDevice) {
  Session session(here(), there(), "a", "unix/cuda_basic");
  const at::Tensor values = Numbers(kSmall, 1);
  const CUDAStream stream = *NewStream(0), to = *NewStream(1);
  Side::Arrival there_now = session.receiver.Receive(to);
  EXPECT_THAT(session.sender.Send(values, stream, Cuda(1)).Wait(), IsOk());
  EXPECT_TRUE(at::equal(ReadOn(to, *there_now.Wait()), values));

  Side::Arrival on_host = session.receiver.ReceiveOnHost();
  const at::Tensor tensor = MadeOn(stream, values);
  EXPECT_THAT(session.sender.Send(tensor, stream, {"cpu", 0}).Wait(), IsOk());
  EXPECT_TRUE(at::equal(*on_host.Wait(), values));
}

TEST_F(ChannelsTest, SixtyFourSessionsCostTheStagingOfOne) {
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<size_t> pinned;
  for (int i = 0; i < 64; ++i) {
    sessions.push_back(std::make_unique<Session>(
        here(), there(), absl::StrCat("s", i), "unix/cuda_basic"));
    ASSERT_THAT(sessions.back()->Carry(Numbers(kSmall, i)), IsOk());
    ReleaseCaches();
    pinned.push_back(software_gpu::PinnedMemoryUsed());
  }
  EXPECT_EQ(pinned.front(), 32u << 20);  // 16 MiB for each direction
  EXPECT_EQ(pinned.back(), pinned.front());
}

// Descriptors.

std::string NopText(const std::string& text) {
  return absl::StrCat("\xbd", std::string(1, static_cast<char>(text.size())),
                      text);
}

// A device of a process of another number, as cuda_ipc describes it.
std::string DescriptorOf(const std::string& uuid, const std::string& boot_id) {
  return absl::StrCat("\xb9\x03", NopText(boot_id), "\x01", NopText(uuid));
}

TEST_F(ChannelsTest, ADeviceOfUnknownUuidIsRefusedAndNothingThrows) {
  Side side(here(), "a", {"unix/cuda_ipc", "unix/cuda_basic"});
  ASSERT_EQ(side.lanes().channels.front().name, "cuda_ipc");
  const tensorpipe::channel::Context& ipc =
      *side.lanes().channels.front().context;
  const std::string local = ipc.deviceDescriptors().at(Cuda(0));
  const auto device = ReadIpcDevice(local);
  ASSERT_THAT(device, IsOk());
  EXPECT_EQ(device->process_id, getpid());
  EXPECT_EQ("GPU-" + device->uuid, CudaUuid(0));

  const std::string seen = CudaUuid(1).substr(4);
  std::string unseen = seen;
  unseen.back() = unseen.back() == 'f' ? 'e' : 'f';
  EXPECT_TRUE(
      ipc.canCommunicateWithRemote(local, DescriptorOf(seen, device->boot_id)));
  EXPECT_FALSE(ipc.canCommunicateWithRemote(
      local, DescriptorOf(unseen, device->boot_id)));
  EXPECT_FALSE(
      ipc.canCommunicateWithRemote(local, DescriptorOf(seen, "another boot")));
  for (const std::string& bad :
       {std::string(), std::string("GPU"), local.substr(0, 20), local + "x"}) {
    for (const LaneContext::Channel& channel : side.lanes().channels) {
      EXPECT_FALSE(channel.context->canCommunicateWithRemote(local, bad))
          << channel.name << ": " << absl::CHexEscape(bad);
    }
  }
}

// Two processes.

// The other process: sends back to cuda:0 what it gets on its cuda:1.
int Echo(const std::string& channel, const std::string& address, int messages) {
  Station station;
  Side side(station, "a", address, {"unix/" + channel, "unix/basic"});
  for (int i = 0; i < messages; ++i) {
    const CUDAStream stream = *NewStream(1);
    const auto got = side.Receive(stream).Wait();
    if (!got.ok()) std::abort();
    if (!side.Send(*got, stream, Cuda(0)).Wait().ok()) std::abort();
    stream.synchronize();
  }
  tensorferry::testing::AwaitInputClosed();
  return 0;
}

class TwoProcessTest : public ChannelsTest,
                       public ::testing::WithParamInterface<std::string> {};

TEST_P(TwoProcessTest, TensorsGoFromDeviceToDeviceAndBack) {
  Side side(here(), "a", {"unix/" + GetParam(), "unix/basic"});
  auto child = ChildProcess::Start({"echo", GetParam(), side.address(), "3"});
  ASSERT_THAT(child, IsOk());
  side.Accept();
  for (const int64_t size : {kSmall, kLarge, kSmall}) {
    const at::Tensor values = Numbers(size, 1);
    const CUDAStream stream = *NewStream(0), back = *NewStream(0);
    const at::Tensor tensor = MadeOn(stream, values);
    Side::Arrival returned = side.Receive(back);
    EXPECT_THAT(side.Send(tensor, stream, Cuda(1)).Wait(), IsOk());
    const auto got = returned.Wait();
    ASSERT_THAT(got, IsOk());
    EXPECT_TRUE(at::equal(ReadOn(back, *got), values));
    stream.synchronize();
  }
  child->CloseInput();
  EXPECT_EQ(child->Wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Channels, TwoProcessTest,
                         ::testing::Values("cuda_ipc", "cuda_basic"),
                         [](const auto& info) { return info.param; });

// The other process: sends a tensor over a channel that lies.
int Lie(const std::string& channel, const std::string& lie,
        const std::string& address) {
  Station station;
  BackendRegistry backends;
  if (!backends.Register(LyingChannel(channel, lie)).ok()) std::abort();
  Side side(station, "lie", address, {"unix/" + channel}, backends);
  for (int i = 0; i < 2; ++i) {
    // Each device has an outbox.
    const CUDAStream stream = *NewStream(lie == "name" ? i : 0);
    const at::Tensor tensor = MadeOn(stream, Numbers(kSmall, 1));
    const bool sent = side.Send(tensor, stream, Cuda(1)).Wait().ok();
    stream.synchronize();
    if (!sent) break;
  }
  tensorferry::testing::AwaitInputClosed();
  return 0;
}

struct LieCase {
  std::string lie;
  absl::StatusCode code;
  std::string why;
};

TEST_F(ChannelsTest, LiesOfAnIpcSenderEndItsChannelAndNoOther) {
  Side honest(here(), "a", {"unix/cuda_ipc"});
  auto echo = ChildProcess::Start({"echo", "cuda_ipc", honest.address(), "9"});
  ASSERT_THAT(echo, IsOk());
  honest.Accept();
  for (const LieCase& c : std::vector<LieCase>{
           {"slot", absl::StatusCode::kDataLoss, "in slot 4 of 4"},
           {"device", absl::StatusCode::kDataLoss, "device -1"},
           {"untold", absl::StatusCode::kDataLoss, "has not told"},
           {"twice", absl::StatusCode::kDataLoss, "told before"},
           {"process", absl::StatusCode::kPermissionDenied, "another process"},
           {"name", absl::StatusCode::kPermissionDenied, "two names"},
           {"memory", absl::StatusCode::kDataLoss, "cudaError"},
           {"event", absl::StatusCode::kDataLoss, "cudaError"},
           {"small", absl::StatusCode::kDataLoss, "want 33554432"},
       }) {
    SCOPED_TRACE(c.lie);
    Side side(here(), "lie", {"unix/cuda_ipc"});
    auto liar = ChildProcess::Start({"lie", "cuda_ipc", c.lie, side.address()});
    ASSERT_THAT(liar, IsOk());
    side.Accept();
    const CUDAStream to = *NewStream(1);
    absl::StatusOr<at::Tensor> got = side.Receive(to).Wait();
    if (got.ok()) {      // the first was true
      to.synchronize();  // while the liar has that memory
      got = side.Receive(to).Wait();
    }
    EXPECT_THAT(got, StatusIs(c.code, HasSubstr(c.why)));
    liar->CloseInput();
    EXPECT_EQ(liar->Wait(), 0);

    const at::Tensor values = Numbers(kSmall, 3);
    const CUDAStream stream = *NewStream(0), back = *NewStream(0);
    const at::Tensor tensor = MadeOn(stream, values);
    Side::Arrival returned = honest.Receive(back);
    EXPECT_THAT(honest.Send(tensor, stream, Cuda(1)).Wait(), IsOk());
    const auto echoed = returned.Wait();
    ASSERT_THAT(echoed, IsOk());
    EXPECT_TRUE(at::equal(ReadOn(back, *echoed), values));
  }
}

TEST_F(ChannelsTest, AnotherProcessThatClaimsToBeThisOneIsRefused) {
  Side side(here(), "lie", {"unix/cuda_xth"});
  auto liar = ChildProcess::Start(
      {"lie", "cuda_xth",
       absl::CHexEscape(
           side.lanes().channels[0].context->deviceDescriptors().at(Cuda(0))),
       side.address()});
  ASSERT_THAT(liar, IsOk());
  side.Accept();
  EXPECT_THAT(side.Receive(*NewStream(1)).Wait(),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr(absl::StrCat("process ", liar->pid()))));
  liar->CloseInput();
  EXPECT_EQ(liar->Wait(), 0);
}

// Failures.

// The other process: a call of CUDA's fails within tensorpipe.
int Lose() {
  Station here, there;
  {
    Session lost(here, there, "a", "unix/cuda_basic");
    if (!lost.Carry(Numbers(kSmall, 1)).ok()) std::abort();
    Session bystander(here, there, "b", "unix/cuda_basic");
    const CUDAStream stream = *NewStream(0);
    const at::Tensor tensor = MadeOn(stream, Numbers(kSmall, 1));
    // Its copy is enqueued and does not run: no thread of tensorpipe's own is
    // in the channel when the call fails.
    const CUDAStream held = *NewStream(0);
    const at::Tensor other = MadeOn(held, Numbers(kSmall, 2));
    held.synchronize();
    software_gpu::Hold(held);
    software_gpu::TakeCalls();
    const Carrying waiting = bystander.sender.Send(other, held, Cuda(1));
    const absl::Time until = absl::Now() + absl::Seconds(30);
    while (software_gpu::TakeCalls()["cudaMemcpyAsync"] == 0) {
      if (absl::Now() > until) std::abort();
      std::this_thread::yield();
    }
    software_gpu::FailCall("cudaMemcpyAsync", 1, cudaErrorIllegalAddress);
    const Carrying sent = lost.sender.Send(tensor, stream, Cuda(1));
    WriteLine(sent.Wait().ToString());
    Side::Arrival arrival = bystander.receiver.Receive(*NewStream(1));
    WriteLine(arrival.Wait().status().ToString());
    software_gpu::Release(held);
    if (!waiting.ended() && !waiting.Wait().ok()) std::abort();
  }
  Session next(here, there, "c", "unix/cuda_basic");
  const at::Tensor values = Numbers(kLarge, 5);
  const auto carried = next.Carry(values);
  WriteLine(carried.status().ToString());
  return carried.ok() && at::equal(*carried, values) ? 0 : 1;
}

TEST_F(ChannelsTest, AnErrorOfCudasWithinTensorpipeIsAStatusAndTheNextWorks) {
  auto child = ChildProcess::Start({"lose"});
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->ReadLine().value(),
              AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("cuda_basic"),
                    HasSubstr("cudaErrorIllegalAddress")));
  EXPECT_THAT(child->ReadLine().value(), HasSubstr("UNAVAILABLE"));
  EXPECT_EQ(child->ReadLine().value(), "OK");
  EXPECT_EQ(child->Wait(), 0);
}

// The other process: cuda_xth is lost, again and again. Says each time why it
// cannot be used now, and then what is taken in its place.
int LoseAll() {
  Station here, there;
  for (int i = 0; i < 5; ++i) {
    Session lost(here, there, absl::StrCat("s", i), "unix/cuda_xth");
    const CUDAStream stream = *NewStream(0);
    const at::Tensor tensor = MadeOn(stream, Numbers(kSmall, 1));
    stream.synchronize();
    Side::Arrival arrival = lost.receiver.Receive(*NewStream(1));
    software_gpu::FailCall("cudaMemcpyAsync", 1, cudaErrorIllegalAddress);
    lost.sender.Send(tensor, stream, Cuda(1)).Wait().IgnoreError();
    if (!absl::IsUnavailable(arrival.Wait().status())) return 1;
    for (const PathInfo& path : Paths(BackendRegistry::Global(), false)) {
      if (path.name == "unix/cuda_xth") WriteLine(path.unusable);
    }
  }
  const std::vector<std::string> paths = {"unix/cuda_xth", "unix/cuda_basic"};
  Side receiver(there, "next", paths);
  Side sender(here, "next", receiver.address(), paths);
  receiver.Accept();
  WriteLine(sender.lanes().ChannelTo({"cuda", 0}, {"cuda", 1},
                                     receiver.lanes().Describe()));
  return 0;
}

TEST_F(ChannelsTest, AChannelThatIsLostTheFifthTimeGivesWayToTheNext) {
  auto child = ChildProcess::Start({"lose_all"});
  ASSERT_THAT(child, IsOk());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(child->ReadLine().value(), "");
  EXPECT_THAT(child->ReadLine().value(), HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_EQ(child->ReadLine().value(), "cuda_basic");
  EXPECT_EQ(child->Wait(), 0);
}

// The other process, which sees the GPUs that its environment says: whether it
// can talk to a device of a descriptor, in hexadecimal.
int See(const std::vector<std::string>& descriptors) {
  Station station;
  Side side(station, "a", {"unix/cuda_ipc"});
  const auto& ipc = *side.lanes().channels.front().context;
  for (const std::string& descriptor : descriptors) {
    WriteLine(ipc.canCommunicateWithRemote(ipc.deviceDescriptors().at(Cuda(0)),
                                           absl::HexStringToBytes(descriptor))
                  ? "sees"
                  : "does not see");
  }
  return 0;
}

TEST_F(ChannelsTest, AGpuThatTheProcessMayNotUseIsRefused) {
  Side side(here(), "a", {"unix/cuda_ipc"});
  const auto& devices =
      side.lanes().channels.front().context->deviceDescriptors();
  auto child = ChildProcess::Start(
      {"see", "1", absl::BytesToHexString(devices.at(Cuda(0))),
       absl::BytesToHexString(devices.at(Cuda(1)))});
  ASSERT_THAT(child, IsOk());
  EXPECT_EQ(child->ReadLine().value(), "does not see");
  EXPECT_EQ(child->ReadLine().value(), "sees");
  EXPECT_EQ(child->Wait(), 0);
}

// Paths.

TEST(CudaPathsTest, AreNamedBestFirstAndNoneIsForTwoCpus) {
  std::vector<std::string> unix_paths;
  for (const PathInfo& path : Paths(BackendRegistry::Global(), false)) {
    if (path.from_type == "cpu" && path.to_type == "cpu") {
      EXPECT_THAT(path.name, ::testing::Not(HasSubstr("cuda")));
    } else if (path.name.starts_with("unix/")) {
      unix_paths.push_back(
          absl::StrCat(path.name, " ", path.from_type, " ", path.to_type));
    } else {
      EXPECT_THAT(path.name, ::testing::Not(HasSubstr("cuda_xth")));
      EXPECT_THAT(path.name, ::testing::Not(HasSubstr("cuda_ipc")));
    }
    EXPECT_EQ(path.only_if_named, path.name.ends_with("cuda_gdr")) << path.name;
    if (path.only_if_named) continue;
    EXPECT_EQ(path.unusable, "");
  }
  EXPECT_THAT(
      unix_paths,
      ElementsAre("unix/cuda_xth cuda cuda", "unix/cuda_ipc cuda cuda",
                  "unix/cuda_gdr cuda cuda", "unix/cuda_basic cuda cuda",
                  "unix/cuda_basic cuda cpu", "unix/cuda_basic cpu cuda"));
}

// The other process: why its paths for GPUs cannot be used.
int Explain() {
  for (const PathInfo& path : Paths(BackendRegistry::Global(), false)) {
    if (path.from_type == "cpu" && path.to_type == "cpu") continue;
    WriteLine(path.unusable);
  }
  return 0;
}

TEST(CudaPathsTest, SayThatThereIsNoGpu) {
  auto child = ChildProcess::Start({"explain", ""});
  ASSERT_THAT(child, IsOk());
  for (int i = 0; i < 14; ++i) {
    EXPECT_THAT(child->ReadLine().value(), HasSubstr("no GPU can be used"));
  }
  EXPECT_EQ(child->Wait(), 0);
}

// The other process, which has MIG instances.
int OnInstances() {
  for (const PathInfo& path : Paths(BackendRegistry::Global(), false)) {
    if (path.name == "unix/cuda_ipc") WriteLine(path.unusable);
  }
  const at::Tensor values = Numbers(kSmall, 7);
  Station here, there;
  for (const std::string channel : {"cuda_xth", "cuda_basic"}) {
    Session session(here, there, channel, "unix/" + channel);
    const auto carried = session.Carry(values);
    if (!carried.ok() || !at::equal(*carried, values)) return 1;
  }
  return 0;
}

TEST(CudaPathsTest, BetweenInstancesOfAGpuThereIsAllButIpc) {
  auto child = ChildProcess::Start({"instances"});
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->ReadLine().value(), HasSubstr("is a MIG instance (MIG-"));
  EXPECT_EQ(child->Wait(), 0);
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  using tensorferry::testing::EndChild;
  const std::vector<std::string> args(argv + 1, argv + argc);
  const std::string mode = args.empty() ? "" : args[0];
  if (mode == "see" || mode == "explain") {
    setenv("CUDA_VISIBLE_DEVICES", args[1].c_str(), 1);
  }
  if (mode == "instances") {
    setenv("SOFTWARE_GPU_UUID_PREFIX", "MIG", 1);
    return EndChild(tensorferry::OnInstances());
  }
  if (mode == "echo") {
    return EndChild(tensorferry::Echo(args[1], args[2], std::stoi(args[3])));
  }
  // A lying channel, and one that was lost, leave memory behind.
  if (mode == "lie") return tensorferry::Lie(args[1], args[2], args[3]);
  if (mode == "lose") return tensorferry::Lose();
  if (mode == "lose_all") return EndChild(tensorferry::LoseAll());
  if (mode == "see") {
    return EndChild(tensorferry::See({args.begin() + 2, args.end()}));
  }
  if (mode == "explain") return EndChild(tensorferry::Explain());
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
