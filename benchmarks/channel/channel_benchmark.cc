// From write to both callbacks, one buffer at a time, between two contexts of
// this process over a unix socket of our own transport, into a block of a pool,
// which was touched before.
#include <benchmark/benchmark.h>
#include <tensorpipe/tensorpipe.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/executor.h"
#include "channel/local_channel.h"
#include "pool/buffer_pool.h"
#include "pool/pool_budget.h"
#include "transport/descriptors.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {
namespace {

// "pool", "vm" and "stream" are the local channel with a pool, without one, and
// without a peer that it knows.
constexpr const char* kChannels[] = {"pool", "vm", "stream", "cma", "basic"};

const tensorpipe::Device kCpu(tensorpipe::kCpuDeviceType, 0);
const SessionKey kSession{"benchmark", std::string(16, 'k')};

class End {
 public:
  // `pool`: that buffers come from which are received; null: none.
  End(const std::string& channel, std::shared_ptr<BufferPool> pool)
      : pool_(std::move(pool)) {
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
    if (channel != "stream") options.peer_of = PeerProcessOf;
    options.descriptors = {.carried_by = CarriesDescriptors,
                           .write = WriteWithDescriptor,
                           .take = TakeDescriptor};
    options.pool = pool_;
    options.pool_from_bytes = 1;
    return MakeLocalChannel(options);
  }

  std::unique_ptr<PollLoop> loop_ =
      *PollLoop::Create(Clock::Real(), {.longest = absl::Microseconds(20)});
  ThreadPool copier_{1};
  const std::shared_ptr<BufferPool> pool_;
  std::unique_ptr<Hub> hub_;
  tensorpipe::Context context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
};

class Pair {
 public:
  Pair(const std::string& channel, size_t length)
      : pool_(BufferPool::Create(
            {.budget = std::make_shared<PoolBudget>(uint64_t{4} << 30)})),
        block_(*pool_->Take(length)),
        from_(channel, nullptr),
        to_(channel, channel == "pool" ? pool_ : nullptr),
        source_(length, 1) {
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
          allocation.tensors.push_back({tensorpipe::CpuBuffer{block_.data}});
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
  const std::shared_ptr<BufferPool> pool_;
  const BufferPool::Block block_;
  End from_, to_;
  std::vector<char> source_;
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

// One thread, as each of the channels has.
void Memcpy(benchmark::State& state) {
  const size_t length = state.range(0);
  const std::vector<char> source(length, 1);
  const auto pool = BufferPool::Create(
      {.budget = std::make_shared<PoolBudget>(uint64_t{4} << 30)});
  const BufferPool::Block target = *pool->Take(length);
  for (auto unused : state) {
    std::memcpy(target.data, source.data(), length);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * length);
}

const std::vector<int64_t> kLengths = {64 << 10, 256 << 10, 512 << 10, 1 << 20,
                                       4 << 20,  16 << 20,  256 << 20, 1 << 30};

BENCHMARK(OneBuffer)
    ->ArgsProduct({kLengths, {0, 1, 2, 3, 4}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

BENCHMARK(Memcpy)
    ->ArgsProduct({kLengths})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
