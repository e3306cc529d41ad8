#ifndef TENSORFERRY_TESTS_CUDA_CHANNEL_FIXTURE_H_
#define TENSORFERRY_TESTS_CUDA_CHANNEL_FIXTURE_H_

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <tensorpipe/tensorpipe.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transfer/lane_context.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {

// No wait of these tests is longer.
inline constexpr std::chrono::seconds kPatience(30);

SessionKey KeyOf(const std::string& session_id);

// An endpoint's loop and sockets.
struct Station {
  std::unique_ptr<PollLoop> loop = *PollLoop::Create();
  std::unique_ptr<Hub> hub = *Hub::Create({.loop = loop.get()});
};

// An operation of tensorpipe's.
class Carrying {
 public:
  std::function<void(const tensorpipe::Error&)> done() const;
  // DEADLINE_EXCEEDED: it is not.
  absl::Status Wait() const;
  bool ended() const;

 private:
  std::shared_ptr<std::promise<absl::Status>> promise_ =
      std::make_shared<std::promise<absl::Status>>();
  std::shared_future<absl::Status> status_ = promise_->get_future().share();
};

// One side of a session over a unix socket, with the channels of `paths` and
// one pipe.
class Side {
 public:
  // Listens; Accept makes the pipe.
  Side(Station& station, const std::string& session_id,
       const std::vector<std::string>& paths,
       const BackendRegistry& backends = BackendRegistry::Global());
  // Dials.
  Side(Station& station, const std::string& session_id,
       const std::string& address, const std::vector<std::string>& paths,
       const BackendRegistry& backends = BackendRegistry::Global());
  ~Side();

  const std::string& address() const { return address_; }
  LaneContext& lanes() { return lanes_; }
  void Accept();

  // Sends what `stream` makes of `tensor`; from the host if it is there.
  Carrying Send(const at::Tensor& tensor, c10::cuda::CUDAStream stream,
                tensorpipe::Device target);

  // The tensor is there once the stream has come so far.
  class Arrival {
   public:
    absl::StatusOr<at::Tensor> Wait();

   private:
    friend class Side;
    Carrying carrying_;
    std::shared_ptr<at::Tensor> tensor_ = std::make_shared<at::Tensor>();
  };
  Arrival Receive(c10::cuda::CUDAStream stream);
  Arrival ReceiveOnHost();

 private:
  Arrival Receive(
      std::function<tensorpipe::Buffer(int64_t count, at::Tensor&)> allocate);

  std::string address_;
  LaneContext lanes_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::future<std::shared_ptr<tensorpipe::Pipe>> accepted_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
};

// Both sides in this process, of two endpoints.
struct Session {
  Session(Station& from, Station& to, const std::string& id,
          const std::string& path);
  // From cuda:0 to cuda:1, and back to the host.
  absl::StatusOr<at::Tensor> Carry(const at::Tensor& values);

  Side receiver;
  Side sender;
};

tensorpipe::Device Cuda(int index);
at::Tensor Numbers(int64_t count, int first);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_CHANNEL_FIXTURE_H_
