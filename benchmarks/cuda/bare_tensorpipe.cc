#include "benchmarks/cuda/bare_tensorpipe.h"

#include <cuda_runtime_api.h>
#include <tensorpipe/tensorpipe_cuda.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/synchronization/notification.h"

namespace tensorferry::benchmarks {
namespace {

void Check(const tensorpipe::Error& error) {
  if (!error) return;
  std::fprintf(stderr, "bare tensorpipe: %s\n", error.what().c_str());
  std::exit(1);
}

tensorpipe::Buffer BufferOf(const Memory& memory, cudaStream_t stream) {
  if (memory.on_host) return tensorpipe::CpuBuffer{memory.data};
  return tensorpipe::CudaBuffer{memory.data, stream};
}

}  // namespace

BareTensorpipe::BareTensorpipe(const std::string& channel)
    : stream_(c10::cuda::getStreamFromPool(false, 0)),
      context_(std::make_shared<tensorpipe::Context>()) {
  context_->registerTransport(0, "uv", tensorpipe::transport::uv::create());
  context_->registerChannel(0, "basic", tensorpipe::channel::basic::create());
  context_->registerChannel(1, channel,
                            channel == "cuda_ipc"
                                ? tensorpipe::channel::cuda_ipc::create()
                                : tensorpipe::channel::cuda_basic::create(
                                      tensorpipe::channel::basic::create()));
}

BareTensorpipe::~BareTensorpipe() {
  context_->close();
  context_->join();
}

std::string BareTensorpipe::Accept(std::function<Memory(bool, uint64_t)> fill) {
  fill_ = std::move(fill);
  listener_ = context_->listen({"uv://127.0.0.1"});
  listener_->accept([this](const tensorpipe::Error& error,
                           std::shared_ptr<tensorpipe::Pipe> pipe) {
    if (error) return;  // closed
    pipe_ = std::move(pipe);
    ReadNext();
  });
  return listener_->url("uv");
}

void BareTensorpipe::ReadNext() {
  pipe_->readDescriptor([this](const tensorpipe::Error& error,
                               const tensorpipe::Descriptor& descriptor) {
    if (error) return;  // closed
    const auto& tensor = descriptor.tensors.at(0);
    const Memory into = fill_(
        tensor.targetDevice->type == tensorpipe::kCpuDeviceType, tensor.length);
    tensorpipe::Allocation allocation;
    allocation.tensors.push_back({BufferOf(into, stream_.stream())});
    pipe_->read(std::move(allocation), [this](const tensorpipe::Error& error) {
      if (!error) Answer();
    });
  });
}

// The bytes are there when the stream has come so far. tensorpipe may call CUDA
// within a call of ours, which a callback of a stream must not.
void BareTensorpipe::Answer() {
  cudaStreamSynchronize(stream_.stream());
  pipe_->write({}, [](const tensorpipe::Error&) {});
  ReadNext();
}

void BareTensorpipe::Connect(const std::string& address) {
  pipe_ = context_->connect(address);
}

void BareTensorpipe::Send(const Memory& from, bool to_host) {
  absl::Notification written, answered;
  tensorpipe::Message message;
  message.tensors.push_back(
      {.buffer = BufferOf(from, stream_.stream()),
       .length = from.nbytes,
       .targetDevice =
           to_host ? tensorpipe::Device(tensorpipe::kCpuDeviceType, 0)
                   : tensorpipe::Device(tensorpipe::kCudaDeviceType, 0)});
  pipe_->write(std::move(message), [&](const tensorpipe::Error& error) {
    Check(error);
    written.Notify();
  });
  pipe_->readDescriptor(
      [&](const tensorpipe::Error& error, const tensorpipe::Descriptor&) {
        Check(error);
        pipe_->read({}, [&](const tensorpipe::Error& error) {
          Check(error);
          answered.Notify();
        });
      });
  written.WaitForNotification();
  answered.WaitForNotification();
}

}  // namespace tensorferry::benchmarks
