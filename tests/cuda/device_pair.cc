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

void DevicePairTest::Open(const std::string& channel) {
  Offer offer;
  offer.to_callee.rules = {*ParsePlacementRule("cuda:0=cuda:1"),
                           *ParsePlacementRule("cuda:1=cuda:0")};
  offer.paths = {"unix/basic", "unix/" + channel};
  FERRY_ASSERT_OK_AND_ASSIGN(pair_, MakePeerPair(offer, executor_.get()));
}

void DevicePairTest::TearDown() {
  pair_.reset();
  executor_.reset();
  CloseCudaChannelsForTesting();
  SoftwareGpuTorchTest::TearDown();
}

at::Tensor DevicePairTest::Made(CUDAStream stream, float value) {
  const CUDAStreamGuard guard(stream);
  return at::full({kFloats}, value,
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
