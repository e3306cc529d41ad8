// tensorpipe's CUDA channels on the software GPU, in one process and in two.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <tensorpipe/tensorpipe.h>
#include <tensorpipe/tensorpipe_cuda.h>

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tests/cuda/carry.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/child_process.h"

namespace tensorferry::software_gpu {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::MadeOn;
using ::tensorferry::testing::ReadOn;
using ::tensorferry::testing::WaitFor;
using ::testing::Contains;

constexpr int64_t kSmall = 1000;
constexpr int64_t kLarge = 20'000'000;  // 80 MB: many chunks of every channel

std::shared_ptr<tensorpipe::channel::Context> MakeChannel(
    const std::string& name) {
  if (name == "cuda_xth") return tensorpipe::channel::cuda_xth::create();
  if (name == "cuda_ipc") return tensorpipe::channel::cuda_ipc::create();
  return tensorpipe::channel::cuda_basic::create(
      tensorpipe::channel::basic::create());
}

// A process's end of a pipe over uv with one CUDA channel.
class Side {
 public:
  explicit Side(const std::string& channel)
      : context_(std::make_shared<tensorpipe::Context>()) {
    context_->registerTransport(0, "uv", tensorpipe::transport::uv::create());
    context_->registerChannel(0, "basic", tensorpipe::channel::basic::create());
    context_->registerChannel(1, channel, MakeChannel(channel));
  }
  ~Side() {
    if (pipe_) pipe_->close();
    context_->close();
    context_->join();
  }

  std::string Listen() {
    listener_ = context_->listen({"uv://127.0.0.1"});
    listener_->accept([this](const tensorpipe::Error& error,
                             std::shared_ptr<tensorpipe::Pipe> pipe) {
      EXPECT_FALSE(error) << error.what();
      accepted_.set_value(std::move(pipe));
    });
    return listener_->url("uv");
  }
  void Accept() { pipe_ = accepted_.get_future().get(); }
  void Connect(const std::string& url) { pipe_ = context_->connect(url); }

  // Sends what `stream` makes of `tensor`.
  std::future<void> Send(const at::Tensor& tensor, CUDAStream stream,
                         int to_device) {
    return Send(tensor,
                tensorpipe::CudaBuffer{tensor.data_ptr(), stream.stream()},
                tensorpipe::Device(tensorpipe::kCudaDeviceType, to_device));
  }
  std::future<void> Send(const at::Tensor& tensor, tensorpipe::Buffer buffer,
                         tensorpipe::Device target) {
    auto sent = std::make_shared<std::promise<void>>();
    tensorpipe::Message message;
    message.tensors.push_back(
        {.buffer = buffer, .length = tensor.nbytes(), .targetDevice = target});
    pipe_->write(std::move(message),
                 [sent, tensor](const tensorpipe::Error& error) {
                   EXPECT_FALSE(error) << error.what();
                   sent->set_value();
                 });
    return sent->get_future();
  }

  // The tensor is there once `stream` has come so far; undefined: the pipe
  // broke.
  std::future<at::Tensor> Receive(CUDAStream stream) {
    return Receive([stream](int64_t count) {
      CUDAStreamGuard guard(stream);
      const at::Tensor tensor =
          at::empty({count}, OnDevice(stream.device_index()));
      return std::pair<at::Tensor, tensorpipe::Buffer>(
          tensor, tensorpipe::CudaBuffer{tensor.data_ptr(), stream.stream()});
    });
  }
  std::future<at::Tensor> ReceiveOnHost() {
    return Receive([](int64_t count) {
      const at::Tensor tensor = at::empty({count}, at::kFloat);
      return std::pair<at::Tensor, tensorpipe::Buffer>(
          tensor, tensorpipe::CpuBuffer{tensor.data_ptr()});
    });
  }

 private:
  // `allocate`: so many floats.
  std::future<at::Tensor> Receive(
      std::function<std::pair<at::Tensor, tensorpipe::Buffer>(int64_t)>
          allocate) {
    auto received = std::make_shared<std::promise<at::Tensor>>();
    pipe_->readDescriptor([this, received, allocate](
                              const tensorpipe::Error& error,
                              const tensorpipe::Descriptor& descriptor) {
      if (error) return received->set_value({});
      const auto length = static_cast<int64_t>(descriptor.tensors[0].length);
      auto [tensor, buffer] = allocate(length / 4);
      tensorpipe::Allocation allocation;
      allocation.tensors.push_back({.buffer = buffer});
      pipe_->read(std::move(allocation),
                  [received, tensor = tensor](const tensorpipe::Error& error) {
                    received->set_value(error ? at::Tensor() : tensor);
                  });
    });
    return received->get_future();
  }

  std::shared_ptr<tensorpipe::Context> context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
  std::promise<std::shared_ptr<tensorpipe::Pipe>> accepted_;
};

at::Tensor Numbers(int64_t count, int first) {
  return at::arange(first, first + count, at::kFloat);
}

class OneProcessTest : public SoftwareGpuTorchTest,
                       public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    sender_.emplace(GetParam());
    receiver_.emplace(GetParam());
    sender_->Connect(receiver_->Listen());
    receiver_->Accept();
  }
  void TearDown() override {
    sender_.reset();
    receiver_.reset();
    SoftwareGpuTorchTest::TearDown();
  }

  // From cuda:0 to cuda:1, by a stream that the caller has readied.
  at::Tensor Carry(const at::Tensor& tensor, CUDAStream by, CUDAStream to) {
    std::future<at::Tensor> received = receiver_->Receive(to);
    std::future<void> sent = sender_->Send(tensor, by, to.device_index());
    at::Tensor there = received.get();
    sent.get();
    return there;
  }

  std::optional<Side> sender_;
  std::optional<Side> receiver_;
};

TEST_P(OneProcessTest, TensorsGoFromDeviceToDevice) {
  for (const int64_t size : {kSmall, kLarge}) {
    const at::Tensor values = Numbers(size, 1);
    const CUDAStream stream = getStreamFromPool(false, 0);
    const CUDAStream to = getStreamFromPool(false, 1);
    const at::Tensor tensor = MadeOn(stream, values);
    EXPECT_TRUE(at::equal(ReadOn(to, Carry(tensor, stream, to)), values));
  }
}

TEST_P(OneProcessTest, AnyScheduleWillDo) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SetSchedule({.order = Schedule::Order::kRandom, .seed = seed});
    const at::Tensor values = Numbers(kSmall, static_cast<int>(seed));
    const CUDAStream stream = getStreamFromPool(false, 0);
    const CUDAStream to = getStreamFromPool(false, 1);
    const CUDAStream user = getStreamFromPool(false, 1);
    const at::Tensor tensor = MadeOn(stream, values);
    const at::Tensor there = Carry(tensor, stream, to);
    WaitFor(to, user);
    EXPECT_TRUE(at::equal(ReadOn(user, there), values)) << "seed " << seed;
    stream.synchronize();
  }
}

TEST_P(OneProcessTest, SendingWithoutWaitingForTheProducerIsARace) {
  const CUDAStream producer = getStreamFromPool(false, 0);
  const CUDAStream stream = getStreamFromPool(false, 0);
  const CUDAStream to = getStreamFromPool(false, 1);
  const at::Tensor tensor = MadeOn(producer, Numbers(kSmall, 1));
  Carry(tensor, stream, to);
  to.synchronize();
  EXPECT_THAT(TakeKinds(), Contains(Finding::Kind::kRace));
}

INSTANTIATE_TEST_SUITE_P(Channels, OneProcessTest,
                         ::testing::Values("cuda_xth", "cuda_basic"),
                         [](const auto& info) { return info.param; });

// cuda_xth: what is read was enqueued, and may not have happened.
class XthTest : public OneProcessTest {};

TEST_P(XthTest, UsingAReceivedTensorOnAStreamThatDoesNotWaitIsARace) {
  const CUDAStream stream = getStreamFromPool(false, 0);
  const CUDAStream to = getStreamFromPool(false, 1);
  const CUDAStream user = getStreamFromPool(false, 1);
  const at::Tensor values = Numbers(kSmall, 1);
  const at::Tensor tensor = MadeOn(stream, values);
  const at::Tensor there = Carry(tensor, stream, to);
  EXPECT_FALSE(at::equal(ReadOn(user, there), values));
  EXPECT_THAT(TakeKinds(), Contains(Finding::Kind::kRace));
}

INSTANTIATE_TEST_SUITE_P(Channels, XthTest, ::testing::Values("cuda_xth"),
                         [](const auto& info) { return info.param; });

class BasicTest : public OneProcessTest {};

TEST_P(BasicTest, TensorsGoBetweenHostAndDevice) {
  const at::Tensor values = Numbers(kSmall, 1);
  const CUDAStream to = getStreamFromPool(false, 1);
  std::future<at::Tensor> there = receiver_->Receive(to);
  sender_
      ->Send(values, tensorpipe::CpuBuffer{values.data_ptr()},
             tensorpipe::Device(tensorpipe::kCudaDeviceType, 1))
      .get();
  EXPECT_TRUE(at::equal(ReadOn(to, there.get()), values));

  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = MadeOn(stream, values);
  std::future<at::Tensor> here = receiver_->ReceiveOnHost();
  sender_
      ->Send(tensor, tensorpipe::CudaBuffer{tensor.data_ptr(), stream.stream()},
             tensorpipe::Device(tensorpipe::kCpuDeviceType, 0))
      .get();
  EXPECT_TRUE(at::equal(here.get(), values));
}

INSTANTIATE_TEST_SUITE_P(Channels, BasicTest, ::testing::Values("cuda_basic"),
                         [](const auto& info) { return info.param; });

// The other process: sends back to cuda:0 what it gets on its cuda:1, and says
// at the end what it found.
int Echo(const std::string& channel, int messages) {
  Side side(channel);
  tensorferry::testing::WriteLine(side.Listen());
  side.Accept();
  for (int i = 0; i < messages; ++i) {
    const CUDAStream stream = getStreamFromPool(false, 1);
    side.Send(side.Receive(stream).get(), stream, 0).get();
  }
  tensorferry::testing::AwaitInputClosed();
  tensorferry::testing::WriteLine(std::to_string(TakeFindings().size()));
  return 0;
}

class TwoProcessTest : public SoftwareGpuTorchTest,
                       public ::testing::WithParamInterface<std::string> {};

TEST_P(TwoProcessTest, TensorsGoFromDeviceToDeviceAndBack) {
  auto child = ChildProcess::Start({"echo", GetParam(), "3"});
  ASSERT_TRUE(child.ok()) << child.status();
  {
    Side side(GetParam());
    side.Connect(child->ReadLine().value());
    for (const int64_t size : {kSmall, kLarge, kSmall}) {
      const at::Tensor values = Numbers(size, 1);
      const CUDAStream stream = getStreamFromPool(false, 0);
      const CUDAStream back = getStreamFromPool(false, 0);
      const at::Tensor tensor = MadeOn(stream, values);
      std::future<at::Tensor> returned = side.Receive(back);
      side.Send(tensor, stream, 1).get();
      EXPECT_TRUE(at::equal(ReadOn(back, returned.get()), values));
      stream.synchronize();
    }
    child->CloseInput();
    EXPECT_EQ(child->ReadLine().value(), "0");
  }
  EXPECT_EQ(child->Wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Channels, TwoProcessTest,
                         ::testing::Values("cuda_ipc", "cuda_basic"),
                         [](const auto& info) { return info.param; });

// The other process: sends a tensor, and then one that its stream never makes.
int SendAndStall() {
  Side side("cuda_ipc");
  tensorferry::testing::WriteLine(side.Listen());
  side.Accept();
  const CUDAStream stream = getStreamFromPool(false, 0);
  const at::Tensor tensor = MadeOn(stream, Numbers(kSmall, 1));
  side.Send(tensor, stream, 1).get();
  stream.synchronize();
  Hold(stream);
  std::future<void> sent = side.Send(tensor, stream, 1);
  tensorferry::testing::AwaitInputClosed();  // the parent does not close it
  return 0;
}

class PeerDeathTest : public SoftwareGpuTorchTest {};

TEST_F(PeerDeathTest, ASenderThatDiesBeforeItsStreamGotThereIsAnError) {
  auto child = ChildProcess::Start({"stall"});
  ASSERT_TRUE(child.ok()) << child.status();
  Side side("cuda_ipc");
  side.Connect(child->ReadLine().value());
  const CUDAStream stream = getStreamFromPool(false, 1);
  EXPECT_TRUE(side.Receive(stream).get().defined());
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  const at::Tensor never = side.Receive(stream).get();
  EXPECT_TRUE(never.defined());
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  child->Signal(SIGKILL);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorContextIsDestroyed);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
}  // namespace tensorferry::software_gpu

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "echo") {
    return tensorferry::software_gpu::Echo(argv[2], std::stoi(argv[3]));
  }
  if (mode == "stall") return tensorferry::software_gpu::SendAndStall();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
