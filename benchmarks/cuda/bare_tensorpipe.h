#ifndef TENSORFERRY_BENCHMARKS_CUDA_BARE_TENSORPIPE_H_
#define TENSORFERRY_BENCHMARKS_CUDA_BARE_TENSORPIPE_H_

#include <c10/cuda/CUDAStream.h>
#include <tensorpipe/tensorpipe.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tensorferry::benchmarks {

// Memory of cuda:0, or of the host.
struct Memory {
  void* data = nullptr;
  uint64_t nbytes = 0;
  bool on_host = false;
};

// One end of a pipe of tensorpipe's over uv, with one channel for devices. The
// accepting end answers each message with an empty one when the bytes are
// there.
class BareTensorpipe {
 public:
  explicit BareTensorpipe(const std::string& channel);
  ~BareTensorpipe();

  // The accepting end, until it is destroyed: where, and what to fill with a
  // message for the host or the device.
  std::string Accept(std::function<Memory(bool on_host, uint64_t nbytes)> fill);

  void Connect(const std::string& address);
  // Waits until the other end has the bytes.
  void Send(const Memory& from, bool to_host);

 private:
  void ReadNext();
  void Answer();

  const c10::cuda::CUDAStream stream_;
  const std::shared_ptr<tensorpipe::Context> context_;
  std::function<Memory(bool, uint64_t)> fill_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
};

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_CUDA_BARE_TENSORPIPE_H_
