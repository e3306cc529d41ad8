#ifndef TENSORFERRY_TESTS_CUDA_DEVICE_PAIR_H_
#define TENSORFERRY_TESTS_CUDA_DEVICE_PAIR_H_

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "session/session.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/peer_pair.h"

namespace tensorferry {
namespace testing {

// A session within this process over one channel, from cuda:0 to cuda:1 and
// from cuda:1 to cuda:0 unless told otherwise. Callbacks come one by one, in
// the order of what they tell of, but for those of blocking calls, which are
// quick.
class DevicePairTest : public software_gpu::SoftwareGpuTorchTest {
 protected:
  static constexpr int64_t kFloats = 1'000'000;  // 4 chunks of cuda_basic

  void Open(const std::string& channel,
            const std::vector<std::string>& rules = {"cuda:0=cuda:1",
                                                     "cuda:1=cuda:0"});
  void TearDown() override;

  Session& sender() { return *pair_->caller_session; }
  Session& receiver() { return *pair_->callee_session; }

  // What `stream` makes: `value` everywhere.
  static at::Tensor Made(c10::cuda::CUDAStream stream, float value,
                         int64_t floats = kFloats);
  static void Fill(const at::Tensor& tensor, float value,
                   c10::cuda::CUDAStream stream);
  // The same on the host.
  static at::Tensor Expected(float value);

 private:
  std::unique_ptr<ThreadPool> executor_ = std::make_unique<ThreadPool>(1);
  std::optional<PeerPair> pair_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_DEVICE_PAIR_H_
