// Tensors of the toy GPU between two peers in this process.
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "examples/toy_gpu/toy_gpu.h"
#include "session/blocking.h"
#include "tests/software_gpu/software_gpu.h"
#include "tests/testing/peer_pair.h"
#include "tests/testing/status_matchers.h"

namespace toy_gpu {
namespace {

using ::tensorferry::ParsePlacementRule;
using ::tensorferry::PathUse;
using ::tensorferry::testing::IsOk;
using ::testing::Contains;
using ::testing::Field;
using ::testing::IsEmpty;

struct Way {
  std::string source, target, channel;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.source << " to " << way.target << " over " << way.channel;
}

std::string NameOf(const ::testing::TestParamInfo<Way>& info) {
  std::string name =
      info.param.channel + "_" + info.param.source + "_to_" + info.param.target;
  std::erase(name, ':');
  return name;
}

at::Tensor On(c10::Device device, const at::Tensor& host) {
  return device.type() == kType ? ToDevice(host, device) : host.to(device);
}

at::Tensor OnHost(const at::Tensor& tensor) {
  return tensor.device().type() == kType ? ToHost(tensor) : tensor.cpu();
}

class ToyGpuPeersTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    tensorferry::Offer offer;
    offer.to_callee.rules = {
        *ParsePlacementRule(GetParam().source + "=" + GetParam().target)};
    offer.paths = {"unix/basic", "unix/" + GetParam().channel};
    FERRY_ASSERT_OK_AND_ASSIGN(pair_,
                               tensorferry::testing::MakePeerPair(offer));
  }
  void TearDown() override {
    pair_.reset();
    EXPECT_THAT(tensorferry::software_gpu::TakeFindings(), IsEmpty());
  }

  absl::StatusOr<tensorferry::Received> Carry(std::vector<at::Tensor> tensors) {
    absl::Notification came;
    absl::StatusOr<tensorferry::Received> received;
    pair_->callee_session->Receive(
        {}, [&](absl::StatusOr<tensorferry::Received> result) {
          received = std::move(result);
          came.Notify();
        });
    EXPECT_THAT(tensorferry::blocking::Send(*pair_->caller_session,
                                            {.tensors = std::move(tensors)}),
                IsOk());
    came.WaitForNotification();
    return received;
  }

  std::optional<tensorferry::testing::PeerPair> pair_;
};

TEST_P(ToyGpuPeersTest, ItsTensorsCrossAsThoseOfAGpu) {
  const c10::Device source(GetParam().source), target(GetParam().target);
  // A small one, and one of many chunks.
  const std::vector<at::Tensor> host = {at::arange(10, at::kFloat),
                                        at::arange(1'000'000, at::kDouble)};
  FERRY_ASSERT_OK_AND_ASSIGN(tensorferry::Received received,
                             Carry({On(source, host[0]), On(source, host[1])}));
  EXPECT_THAT(received.receipt.paths,
              Contains(Field(&PathUse::path, "unix/" + GetParam().channel)));
  const std::vector<at::Tensor>& got = received.message.tensors;
  ASSERT_EQ(got.size(), host.size());
  for (size_t i = 0; i < host.size(); ++i) {
    EXPECT_EQ(got[i].device(), target) << i;
    EXPECT_TRUE(OnHost(got[i]).equal(host[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , ToyGpuPeersTest,
    ::testing::Values(Way{"privateuseone:0", "privateuseone:0", "cuda_xth"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_xth"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_basic"},
                      Way{"privateuseone:0", "cuda:1", "cuda_xth"},
                      Way{"cuda:0", "privateuseone:1", "cuda_xth"},
                      Way{"privateuseone:1", "cpu", "cuda_basic"},
                      Way{"cpu", "privateuseone:1", "cuda_basic"}),
    NameOf);

}  // namespace
}  // namespace toy_gpu
