// From write to both callbacks, one buffer at a time, between two contexts of
// this process over tensorpipe's uv, into memory that was touched before.
#include <benchmark/benchmark.h>
#include <tensorpipe/tensorpipe.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "base/executor.h"
#include "base/loop.h"
#include "channel/local_channel.h"

namespace tensorferry {
namespace {

constexpr const char* kChannels[] = {"local", "stream", "cma", "basic"};

const tensorpipe::Device kCpu(tensorpipe::kCpuDeviceType, 0);

class End {
 public:
  // "stream" is the local channel that knows no peer.
  explicit End(const std::string& channel) {
    context.registerTransport(0, "uv", tensorpipe::transport::uv::create());
    context.registerChannel(0, channel, Make(channel));
  }
  ~End() { context.join(); }

 private:
  std::shared_ptr<tensorpipe::channel::Context> Make(
      const std::string& channel) {
    if (channel == "cma") return tensorpipe::channel::cma::create();
    if (channel == "basic") return tensorpipe::channel::basic::create();
    LocalChannelOptions options;
    options.copier = &copier_;
    options.loop = &loop_;
    if (channel == "local") {
      options.peer_of = [](const tensorpipe::transport::Connection&) {
        return PeerProcess{getpid(), geteuid()};
      };
    }
    return MakeLocalChannel(options);
  }

  Loop loop_;
  ThreadPool copier_{1};

 public:
  tensorpipe::Context context;
};

class Pair {
 public:
  Pair(const std::string& channel, size_t length)
      : from_(channel), to_(channel), source_(length, 1), target_(length, 2) {
    listener_ = to_.context.listen({"uv://127.0.0.1"});
    absl::Notification came;
    listener_->accept(
        [&](const tensorpipe::Error&, std::shared_ptr<tensorpipe::Pipe> pipe) {
          reader_ = std::move(pipe);
          came.Notify();
        });
    writer_ = from_.context.connect(listener_->url("uv"));
    came.WaitForNotification();
  }

  bool Transfer() {
    bool ok = true;
    absl::Notification written, read;
    tensorpipe::Message message;
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{source_.data()};
    tensor.length = source_.size();
    tensor.targetDevice = kCpu;
    message.tensors.push_back(std::move(tensor));
    reader_->readDescriptor([&](const tensorpipe::Error&,
                                tensorpipe::Descriptor) {
      tensorpipe::Allocation allocation;
      allocation.tensors.push_back({tensorpipe::CpuBuffer{target_.data()}});
      reader_->read(std::move(allocation), [&](const tensorpipe::Error& error) {
        if (error) ok = false;
        read.Notify();
      });
    });
    writer_->write(std::move(message), [&](const tensorpipe::Error& error) {
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
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> writer_, reader_;
};

void BM_Channel(benchmark::State& state) {
  const std::string channel = kChannels[state.range(0)];
  const size_t length = state.range(1);
  Pair pair(channel, length);
  state.SetLabel(channel);
  for (auto unused : state) {
    if (!pair.Transfer()) {
      state.SkipWithError("a transfer failed");
      break;
    }
  }
  state.SetBytesProcessed(state.iterations() * length);
}
BENCHMARK(BM_Channel)
    ->ArgsProduct({{0, 1, 2, 3}, {64 << 10, 1 << 20, 16 << 20, 256 << 20}})
    ->UseRealTime();

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
