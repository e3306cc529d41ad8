// Tensors of the toy device between two peers in this process.
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "examples/toy_device/toy_device.h"
#include "session/blocking.h"
#include "tests/testing/peer_pair.h"
#include "tests/testing/status_matchers.h"

namespace toy {
namespace {

using ::tensorferry::ParsePlacementRule;
using ::tensorferry::testing::IsOk;

// A small one, a large one, and one on the host.
std::vector<at::Tensor> Tensors() {
  return {ToDevice(at::arange(10, at::kFloat)),
          ToDevice(at::arange(1'000'000, at::kDouble)),
          at::arange(5, at::kFloat)};
}

TEST(ToyPeersTest, ItsTensorsCross) {
  tensorferry::Offer offer;
  offer.to_callee.rules = {
      *ParsePlacementRule("privateuseone:0=privateuseone:0")};
  FERRY_ASSERT_OK_AND_ASSIGN(auto pair,
                             tensorferry::testing::MakePeerPair(offer));
  absl::Notification came;
  absl::StatusOr<tensorferry::Received> received;
  pair.callee_session->Receive(
      {}, [&](absl::StatusOr<tensorferry::Received> result) {
        received = std::move(result);
        came.Notify();
      });
  ASSERT_THAT(
      tensorferry::blocking::Send(*pair.caller_session, {.tensors = Tensors()}),
      IsOk());
  came.WaitForNotification();
  ASSERT_THAT(received, IsOk());
  const std::vector<at::Tensor> sent = Tensors();
  const std::vector<at::Tensor>& got = received->message.tensors;
  ASSERT_EQ(got.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(got[i].device(), sent[i].device()) << i;
    EXPECT_TRUE(ToHost(got[i]).equal(ToHost(sent[i]))) << i;
  }
}

}  // namespace
}  // namespace toy
