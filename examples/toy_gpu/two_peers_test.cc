// Tensors of the toy GPU between two peers, in one process and in two.
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "cuda/channels.h"
#include "examples/toy_gpu/toy_gpu.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/child_peer.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/peer_pair.h"
#include "tests/testing/status_matchers.h"

namespace toy_gpu {
namespace {

using ::tensorferry::Offer;
using ::tensorferry::ParsePlacementRule;
using ::tensorferry::PathUse;
using ::tensorferry::Received;
using ::tensorferry::Session;
using ::tensorferry::testing::ChildPeer;
using ::testing::Contains;
using ::testing::Field;

constexpr uint32_t kEcho = 1;

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

// Answers with what came, and says on which device it did.
void EchoAll(const std::shared_ptr<Session>& session) {
  const absl::Status handles =
      session->Handle(kEcho, [](Session& session, Received call) {
        const std::string came_on = call.message.tensors.at(0).device().str();
        session.Reply(
            call.envelope,
            {.payload = came_on, .tensors = std::move(call.message.tensors)},
            {}, [](absl::StatusOr<tensorferry::Receipt>) {});
      });
  if (!handles.ok()) return;
  session->OnEnd([session](tensorferry::SessionReport) {});
}

class ToyGpuTest : public tensorferry::software_gpu::SoftwareGpuTorchTest,
                   public ::testing::WithParamInterface<Way> {
 protected:
  void TearDown() override {
    tensorferry::CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  static Offer OfferOfTheWay() {
    Offer offer;
    offer.to_callee.rules = {
        *ParsePlacementRule(GetParam().source + "=" + GetParam().target)};
    offer.paths = {"unix/basic", "unix/" + GetParam().channel};
    return offer;
  }

  static void ExpectToCrossAndComeBack(Session& session) {
    const c10::Device source(GetParam().source);
    // A small one, and one of many chunks.
    const std::vector<at::Tensor> host = {at::arange(10, at::kFloat),
                                          at::arange(1'000'000, at::kDouble)};
    FERRY_ASSERT_OK_AND_ASSIGN(
        Received reply,
        tensorferry::blocking::Call(
            session, {.type = kEcho,
                      .tensors = {On(source, host[0]), On(source, host[1])}}));
    EXPECT_EQ(reply.message.payload, GetParam().target);
    EXPECT_THAT(reply.receipt.paths,
                Contains(Field(&PathUse::path, "unix/" + GetParam().channel)));
    const std::vector<at::Tensor>& back = reply.message.tensors;
    ASSERT_EQ(back.size(), host.size());
    for (size_t i = 0; i < host.size(); ++i) {
      EXPECT_EQ(back[i].device(), source) << i;
      EXPECT_TRUE(OnHost(back[i]).equal(host[i])) << i;
    }
  }
};

using OneProcessTest = ToyGpuTest;

TEST_P(OneProcessTest, ItsTensorsCrossAsThoseOfAGpu) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      tensorferry::testing::PeerPair pair,
      tensorferry::testing::MakePeerPair(OfferOfTheWay()));
  EchoAll(pair.callee_session);
  ExpectToCrossAndComeBack(*pair.caller_session);
}

INSTANTIATE_TEST_SUITE_P(
    , OneProcessTest,
    ::testing::Values(Way{"privateuseone:0", "privateuseone:0", "cuda_xth"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_xth"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_basic"},
                      Way{"privateuseone:0", "cuda:1", "cuda_xth"},
                      Way{"cuda:0", "privateuseone:1", "cuda_xth"},
                      Way{"privateuseone:1", "cpu", "cuda_basic"},
                      Way{"cpu", "privateuseone:1", "cuda_basic"}),
    NameOf);

using TwoProcessTest = ToyGpuTest;

TEST_P(TwoProcessTest, ItsTensorsCrossAsThoseOfAGpu) {
  FERRY_ASSERT_OK_AND_ASSIGN(ChildPeer child, ChildPeer::Start());
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::unique_ptr<tensorferry::Peer> peer,
      tensorferry::Peer::Create({.name = "parent", .control = ""}));
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::shared_ptr<Session> session,
      tensorferry::blocking::Connect(*peer, child.address(), OfferOfTheWay(),
                                     absl::Seconds(30)));
  ExpectToCrossAndComeBack(*session);
}

INSTANTIATE_TEST_SUITE_P(
    , TwoProcessTest,
    ::testing::Values(Way{"privateuseone:0", "privateuseone:0", "cuda_ipc"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_ipc"},
                      Way{"privateuseone:0", "privateuseone:1", "cuda_basic"},
                      Way{"privateuseone:0", "cuda:1", "cuda_ipc"},
                      Way{"cuda:0", "privateuseone:1", "cuda_ipc"},
                      Way{"privateuseone:1", "cpu", "cuda_basic"},
                      Way{"cpu", "privateuseone:1", "cuda_basic"}),
    NameOf);

}  // namespace
}  // namespace toy_gpu

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == tensorferry::testing::kChildPeer) {
    return tensorferry::testing::EndChild(
        tensorferry::testing::ServeAsChild(toy_gpu::EchoAll));
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
