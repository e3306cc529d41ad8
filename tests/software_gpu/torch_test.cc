#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "tests/software_gpu/torch_fixture.h"

namespace tensorferry::software_gpu {
namespace {

class TorchTest : public SoftwareGpuTorchTest {};

TEST_F(TorchTest, TensorsGoToADeviceAndComeBack) {
  const at::Tensor sent = at::arange(1000, at::kFloat);
  at::Tensor there = at::empty({1000}, OnDevice(1));
  there.copy_(sent);
  EXPECT_EQ(there.device(), at::Device(at::kCUDA, 1));
  EXPECT_TRUE(at::equal(there.cpu(), sent));
}

}  // namespace
}  // namespace tensorferry::software_gpu
