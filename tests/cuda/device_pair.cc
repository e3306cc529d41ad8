#include "tests/cuda/device_pair.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAGuard.h>

#include "cuda/channels.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::CUDAStreamGuard;

void DevicePairTest::Open(const std::string& channel,
                          const std::vector<std::string>& rules) {
  Offer offer;
  for (const std::string& rule : rules) {
    offer.to_callee.rules.push_back(*ParsePlacementRule(rule));
  }
  offer.paths = {"unix/basic", "unix/" + channel};
  FERRY_ASSERT_OK_AND_ASSIGN(pair_, MakePeerPair(offer, executor_.get()));
}

void DevicePairTest::TearDown() {
  pair_.reset();
  executor_.reset();
  CloseCudaChannelsForTesting();
  SoftwareGpuTorchTest::TearDown();
}

at::Tensor DevicePairTest::Made(CUDAStream stream, float value,
                                int64_t floats) {
  const CUDAStreamGuard guard(stream);
  return at::full({floats}, value,
                  software_gpu::OnDevice(stream.device_index()));
}

void DevicePairTest::Fill(const at::Tensor& tensor, float value,
                          CUDAStream stream) {
  const CUDAStreamGuard guard(stream);
  tensor.fill_(value);
}

at::Tensor DevicePairTest::Expected(float value) {
  return at::full({kFloats}, value, at::kFloat);
}

}  // namespace testing
}  // namespace tensorferry
