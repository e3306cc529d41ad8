// From Send to the acknowledgement that the receiver has the message, one at a
// time, between two endpoints of this process; and the same bytes over bare
// tensorpipe with an answer, over its own nearest path. Both receive into
// memory that was touched before.
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>
#include <tensorpipe/tensorpipe.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "base/executor.h"
#include "transfer/in_process_pair.h"

namespace tensorferry {
namespace {

struct Path {
  const char *ferry, *bare_channel;  // on uv
};
constexpr Path kPaths[] = {{"unix/basic", "basic"}, {"unix/local", "cma"}};

// A link and a tensor on each side of it.
class LinkBench {
 public:
  LinkBench(int64_t nbytes, const std::string& path, bool digests)
      : source_(at::ones({nbytes}, at::kByte)),
        target_(at::ones({nbytes}, at::kByte)) {
    EndpointOptions options;
    options.executor = &executor_;
    TransferRules rules;
    rules.session_id = "benchmark";
    rules.paths = {path};
    rules.digests = digests;
    auto pair = MakeInProcessPair(options, options, rules, rules);
    if (!pair.ok()) {
      error_ = pair.status().ToString();
      return;
    }
    pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  }

  const std::string& error() const { return error_; }

  bool Transfer() {
    absl::Notification received, sent;
    bool ok = true;
    ReceiveOptions options;
    options.into.tensors = {target_};
    options.into.names = {"t"};
    pair_->callee->Receive(options, [&](absl::StatusOr<Received> result) {
      ok = ok && result.ok();
      received.Notify();
    });
    TensorMessage message;
    message.tensors = {source_};
    message.names = {"t"};
    pair_->caller->Send(std::move(message), {}, {},
                        [&](absl::StatusOr<Receipt> result) {
                          if (!result.ok()) error_ = result.status().ToString();
                          sent.Notify();
                        });
    sent.WaitForNotification();
    received.WaitForNotification();
    return ok && error_.empty();
  }

 private:
  ThreadPool executor_{2};
  const at::Tensor source_, target_;
  std::unique_ptr<InProcessPair> pair_;
  std::string error_;
};

struct Backends {
  explicit Backends(const std::string& channel) {
    context.registerTransport(0, "uv", tensorpipe::transport::uv::create());
    context.registerChannel(0, channel,
                            channel == "cma"
                                ? tensorpipe::channel::cma::create()
                                : tensorpipe::channel::basic::create());
  }
  ~Backends() {
    context.close();
    context.join();
  }
  tensorpipe::Context context;
};

// One pipe, one tensor a message, and an empty message back.
class BareBench {
 public:
  BareBench(int64_t nbytes, const std::string& channel)
      : nbytes_(nbytes),
        source_(at::ones({nbytes}, at::kByte)),
        target_(at::ones({nbytes}, at::kByte)),
        from_(channel),
        to_(channel) {
    auto listener = to_.context.listen({"uv://127.0.0.1:0"});
    absl::Notification accepted;
    listener->accept(
        [&](const tensorpipe::Error&, std::shared_ptr<tensorpipe::Pipe> pipe) {
          receiver_ = std::move(pipe);
          accepted.Notify();
        });
    sender_ = from_.context.connect(listener->url("uv"));
    accepted.WaitForNotification();
    Transfer();  // so that the pipe is up before its listener goes
  }

  void Transfer() {
    absl::Notification answered;
    receiver_->readDescriptor([this](const tensorpipe::Error&,
                                     const tensorpipe::Descriptor&) {
      tensorpipe::Allocation allocation;
      allocation.tensors.push_back({tensorpipe::CpuBuffer{target_.data_ptr()}});
      receiver_->read(std::move(allocation), [this](const tensorpipe::Error&) {
        receiver_->write({}, [](const tensorpipe::Error&) {});
      });
    });
    tensorpipe::Message message;
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{source_.data_ptr()};
    tensor.length = nbytes_;
    tensor.targetDevice = tensorpipe::Device("cpu", 0);
    message.tensors.push_back(std::move(tensor));
    sender_->write(std::move(message), [](const tensorpipe::Error&) {});
    sender_->readDescriptor([&](const tensorpipe::Error&,
                                const tensorpipe::Descriptor&) {
      sender_->read({}, [&](const tensorpipe::Error&) { answered.Notify(); });
    });
    answered.WaitForNotification();
  }

 private:
  const int64_t nbytes_;
  const at::Tensor source_, target_;
  Backends from_, to_;
  std::shared_ptr<tensorpipe::Pipe> sender_, receiver_;
};

void Count(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void Link(benchmark::State& state, bool digests) {
  LinkBench bench(state.range(0), kPaths[state.range(1)].ferry, digests);
  if (!bench.error().empty()) {
    state.SkipWithError(bench.error().c_str());
    return;
  }
  for (auto _ : state) {
    if (!bench.Transfer()) {
      state.SkipWithError(bench.error().c_str());
      return;
    }
  }
  Count(state);
  state.SetLabel(kPaths[state.range(1)].ferry);
}

void LinkWithDigests(benchmark::State& state) { Link(state, true); }
void LinkWithoutDigests(benchmark::State& state) { Link(state, false); }

void BareTensorpipe(benchmark::State& state) {
  BareBench bench(state.range(0), kPaths[state.range(1)].bare_channel);
  for (auto _ : state) bench.Transfer();
  Count(state);
  state.SetLabel(kPaths[state.range(1)].bare_channel);
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (int path : {0, 1}) {
    for (int64_t nbytes : {1 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20}) {
      benchmark->Args({nbytes, path});
    }
  }
}

BENCHMARK(LinkWithDigests)->Apply(Sizes);
BENCHMARK(LinkWithoutDigests)->Apply(Sizes);
BENCHMARK(BareTensorpipe)->Apply(Sizes);

}  // namespace
}  // namespace tensorferry

BENCHMARK_MAIN();
