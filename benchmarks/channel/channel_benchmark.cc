// From write to both callbacks, one buffer at a time, between two contexts of
// this process over a unix socket of our own transport, into memory that was
// touched before.
#include <benchmark/benchmark.h>
#include <tensorpipe/tensorpipe.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/executor.h"
#include "channel/local_channel.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {
namespace {

// "stream" is the local channel that knows no peer.
constexpr const char* kChannels[] = {"local", "stream", "cma", "basic"};

const tensorpipe::Device kCpu(tensorpipe::kCpuDeviceType, 0);
const SessionKey kSession{"benchmark", std::string(16, 'k')};

class End {
 public:
  explicit End(const std::string& channel) {
    HubOptions options;
    options.loop = loop_.get();
    hub_ = *Hub::Create(options);
    context_.registerChannel(0, channel, Make(channel));
  }
  ~End() {
    context_.close();
    context_.join();
    pipe = nullptr;
    listener_ = nullptr;
  }

  std::string Listen(absl::Notification& came) {
    Hub::Expected expected =
        *hub_->Expect(kSession, {Wire::kUnix}, absl::InfiniteFuture(), {});
    context_.registerTransport(0, "wires", expected.context);
    listener_ = context_.listen({absl::StrCat("wires://", expected.listen)});
    listener_->accept([&](const tensorpipe::Error&,
                          std::shared_ptr<tensorpipe::Pipe> accepted) {
      pipe = std::move(accepted);
      came.Notify();
    });
    return expected.addresses.at(0);
  }

  void Connect(const std::string& address) {
    context_.registerTransport(0, "wires", *hub_->Dial(kSession, address, {}));
    pipe = context_.connect(absl::StrCat("wires://", address));
  }

  std::shared_ptr<tensorpipe::Pipe> pipe;

 private:
  std::shared_ptr<tensorpipe::channel::Context> Make(
      const std::string& channel) {
    if (channel == "cma") return tensorpipe::channel::cma::create();
    if (channel == "basic") return tensorpipe::channel::basic::create();
    LocalChannelOptions options;
    options.copier = &copier_;
    options.loop = loop_.get();
    if (channel == "local") options.peer_of = PeerProcessOf;
    return MakeLocalChannel(options);
  }

  std::unique_ptr<PollLoop> loop_ =
      *PollLoop::Create(Clock::Real(), absl::Microseconds(20));
  ThreadPool copier_{1};
  std::unique_ptr<Hub> hub_;
  tensorpipe::Context context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
};

class Pair {
 public:
  Pair(const std::string& channel, size_t length)
      : from_(channel), to_(channel), source_(length, 1), target_(length, 2) {
    absl::Notification came;
    from_.Connect(to_.Listen(came));
    came.WaitForNotification();
  }

  bool Transfer() {
    bool ok = true;
    absl::Notification written, read;
    to_.pipe->readDescriptor(
        [&](const tensorpipe::Error&, const tensorpipe::Descriptor&) {
          tensorpipe::Allocation allocation;
          allocation.tensors.push_back({tensorpipe::CpuBuffer{target_.data()}});
          to_.pipe->read(std::move(allocation),
                         [&](const tensorpipe::Error& error) {
                           if (error) ok = false;
                           read.Notify();
                         });
        });
    tensorpipe::Message message;
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{source_.data()};
    tensor.length = source_.size();
    tensor.targetDevice = kCpu;
    message.tensors.push_back(std::move(tensor));
    from_.pipe->write(std::move(message), [&](const tensorpipe::Error& error) {
      if (error) ok = false;
      written.Notify();
    });
    written.WaitForNotification();
    read.WaitForNotification();
    return ok;
  }

 private:
  End from_, to_;
  std::vector<char> source_, target_;
};

void OneBuffer(benchmark::State& state) {
  const std::string channel = kChannels[state.range(1)];
  Pair pair(channel, state.range(0));
  state.SetLabel(channel);
  for (auto unused : state) {
    if (!pair.Transfer()) {
      state.SkipWithError("a transfer failed");
      break;
    }
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK(OneBuffer)
    ->ArgsProduct({{64 << 10, 1 << 20, 16 << 20, 256 << 20}, {0, 1, 2, 3}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
