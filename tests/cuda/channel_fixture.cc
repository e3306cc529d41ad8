#include "tests/cuda/channel_fixture.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <tensorpipe/tensorpipe_cuda.h>

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "channel/local_channel.h"
#include "tests/cuda/carry.h"
#include "tests/software_gpu/torch_fixture.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;
using ::tensorferry::software_gpu::OnDevice;

template <class T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << '\n';
  std::abort();
}

LaneContext MakeLanes(
    Station& station, const BackendRegistry& backends,
    const std::vector<std::string>& paths,
    std::shared_ptr<tensorpipe::transport::Context> transport) {
  ChannelEnvironment environment;
  environment.loop = station.loop.get();
  return OrDie(MakeLaneContext(backends, paths, Wire::kUnix,
                               std::move(transport), environment, "test"));
}

absl::Status StatusOf(const tensorpipe::Error& error) {
  if (!error) return absl::OkStatus();
  return LocalChannelErrorStatus(error).value_or(HubErrorStatus(error.what()));
}

}  // namespace

SessionKey KeyOf(const std::string& session_id) {
  return {.session_id = session_id,
          .key = std::string(SessionKey::kKeyBytes, 'k')};
}

std::function<void(const tensorpipe::Error&)> Carrying::done() const {
  return [promise = promise_](const tensorpipe::Error& error) {
    promise->set_value(StatusOf(error));
  };
}

absl::Status Carrying::Wait() const {
  if (status_.wait_for(kPatience) == std::future_status::ready) {
    return status_.get();
  }
  return absl::DeadlineExceededError("stuck");
}

bool Carrying::ended() const {
  return status_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

Side::Side(Station& station, const std::string& session_id,
           const std::vector<std::string>& paths,
           const BackendRegistry& backends) {
  Hub::Expected expected = OrDie(station.hub->Expect(
      KeyOf(session_id), {Wire::kUnix}, absl::InfiniteFuture(), {}));
  address_ = expected.addresses.front();
  lanes_ = MakeLanes(station, backends, paths, expected.context);
  listener_ = lanes_.context->listen(
      {absl::StrCat(kTransportName, "://", expected.listen)});
  auto accepted =
      std::make_shared<std::promise<std::shared_ptr<tensorpipe::Pipe>>>();
  accepted_ = accepted->get_future();
  listener_->accept([accepted](const tensorpipe::Error& error,
                               std::shared_ptr<tensorpipe::Pipe> pipe) {
    accepted->set_value(error ? nullptr : std::move(pipe));
  });
}

Side::Side(Station& station, const std::string& session_id,
           const std::string& address, const std::vector<std::string>& paths,
           const BackendRegistry& backends)
    : address_(address),
      lanes_(
          MakeLanes(station, backends, paths,
                    OrDie(station.hub->Dial(KeyOf(session_id), address, {})))),
      pipe_(lanes_.context->connect(
          absl::StrCat(kTransportName, "://", address))) {}

Side::~Side() {
  if (pipe_ != nullptr) pipe_->close();
  lanes_.context->close();
  lanes_.context->join();
}

void Side::Accept() {
  if (accepted_.wait_for(kPatience) == std::future_status::ready) {
    pipe_ = accepted_.get();
  }
  if (pipe_ == nullptr) std::abort();
}

Carrying Side::Send(const at::Tensor& tensor, CUDAStream stream,
                    tensorpipe::Device target) {
  tensorpipe::Buffer buffer;
  if (tensor.is_cpu()) {
    buffer = tensorpipe::CpuBuffer{tensor.data_ptr()};
  } else {
    buffer = tensorpipe::CudaBuffer{tensor.data_ptr(), stream.stream()};
  }
  tensorpipe::Message message;
  message.tensors.push_back({.buffer = buffer,
                             .length = tensor.nbytes(),
                             .targetDevice = std::move(target)});
  Carrying sent;
  pipe_->write(std::move(message),
               [done = sent.done(), tensor](const tensorpipe::Error& error) {
                 done(error);
               });
  return sent;
}

absl::StatusOr<at::Tensor> Side::Arrival::Wait() {
  absl::Status status = carrying_.Wait();
  if (!status.ok()) return status;
  return *tensor_;
}

Side::Arrival Side::Receive(CUDAStream stream) {
  return Receive([stream](int64_t count, at::Tensor& tensor) {
    CUDAStreamGuard guard(stream);
    tensor = at::empty({count}, OnDevice(stream.device_index()));
    return tensorpipe::CudaBuffer{tensor.data_ptr(), stream.stream()};
  });
}

Side::Arrival Side::ReceiveOnHost() {
  return Receive([](int64_t count, at::Tensor& tensor) {
    tensor = at::empty({count}, at::kFloat);
    return tensorpipe::CpuBuffer{tensor.data_ptr()};
  });
}

Side::Arrival Side::Receive(
    std::function<tensorpipe::Buffer(int64_t count, at::Tensor&)> allocate) {
  Arrival arrival;
  pipe_->readDescriptor([pipe = pipe_.get(), arrival, allocate](
                            const tensorpipe::Error& error,
                            const tensorpipe::Descriptor& descriptor) {
    if (error) return arrival.carrying_.done()(error);
    const auto length = static_cast<int64_t>(descriptor.tensors[0].length);
    tensorpipe::Allocation allocation;
    allocation.tensors.push_back(
        {.buffer = allocate(length / 4, *arrival.tensor_)});
    pipe->read(std::move(allocation), arrival.carrying_.done());
  });
  return arrival;
}

Session::Session(Station& from, Station& to, const std::string& id,
                 const std::string& path)
    : receiver(to, id, {path, "unix/basic"}),
      sender(from, id, receiver.address(), {path, "unix/basic"}) {
  receiver.Accept();
}

absl::StatusOr<at::Tensor> Session::Carry(const at::Tensor& values) {
  const CUDAStream stream = c10::cuda::getStreamFromPool(false, 0);
  const CUDAStream to = c10::cuda::getStreamFromPool(false, 1);
  Side::Arrival arrival = receiver.Receive(to);
  const at::Tensor tensor = testing::MadeOn(stream, values);
  const Carrying sent = sender.Send(tensor, stream, Cuda(1));
  absl::StatusOr<at::Tensor> there = arrival.Wait();
  const absl::Status status = sent.Wait();
  if (!there.ok()) return there;
  if (!status.ok()) return status;
  return testing::ReadOn(to, *there);
}

tensorpipe::Device Cuda(int index) {
  return tensorpipe::Device(tensorpipe::kCudaDeviceType, index);
}

at::Tensor Numbers(int64_t count, int first) {
  return at::arange(first, first + count, at::kFloat);
}

}  // namespace tensorferry
