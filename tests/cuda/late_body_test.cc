// A peer that knows the frames sends to a device: what nobody wants any more,
// or what its receiver has given part of the memory for.
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/tensorpipe.h>
#include <tensorpipe/tensorpipe_cuda.h>

#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "cuda/channels.h"
#include "serialization/serialize.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "tests/transfer/raw_peer.h"

namespace tensorferry {
namespace {

using ::tensorferry::software_gpu::OnDevice;
using ::tensorferry::software_gpu::SoftwareGpuTorchTest;
using ::tensorferry::testing::IsOk;

constexpr int64_t kBytes = 1 << 20;

class LateBodyTest : public SoftwareGpuTorchTest {
 protected:
  void SetUp() override {
    SoftwareGpuTorchTest::SetUp();
    rules_ = BasicRules();
    rules_.paths = {"unix/basic", "unix/cuda_basic"};
    rules_.incoming.rules = {*ParsePlacementRule("cpu=cuda:1")};
    rules_.receive_streams = {c10::cuda::getStreamFromPool(false, 1)};
    EndpointOptions options;
    options.executor = executor_.get();
    options.data.handshake_timeout = absl::Minutes(1);  // of slow machines
    FERRY_ASSERT_OK_AND_ASSIGN(endpoint_, Endpoint::Create(options));
    StatusOutcome up;
    FERRY_ASSERT_OK_AND_ASSIGN(
        const Endpoint::Expected expected,
        endpoint_->Expect(rules_, up.done(), down_.done()));
    link_ = expected.link;
    FERRY_ASSERT_OK_AND_ASSIGN(
        peer_, RawPeer::Connect(expected.addresses, expected.key, rules_, {},
                                {{"cuda_basic",
                                  tensorpipe::channel::cuda_basic::create(
                                      tensorpipe::channel::basic::create())}}));
    ASSERT_THAT(up.Wait(), IsOk());
  }
  void TearDown() override {
    link_ = nullptr;
    endpoint_ = nullptr;
    peer_ = nullptr;
    executor_ = nullptr;  // whose tasks may hold memory of devices
    CloseCudaChannelsForTesting();
    SoftwareGpuTorchTest::TearDown();
  }

  void SendHeader(uint64_t operation) {
    SendHeader(operation,
               {.type = 7, .tensors = {at::full({kBytes}, 1, at::kByte)}});
  }
  void SendHeader(uint64_t operation, TensorMessage message) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        const WriteBuffers buffers,
        Serialize(std::move(message), {.placement = rules_.incoming}));
    HeaderFrame header;
    header.operation = operation;
    header.plan_digest = rules_.plan_digest;
    header.manifest = EncodeManifest(buffers.manifest());
    peer_->Send(header);
  }
  void SendBody(int lane, uint64_t operation) {
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{bytes_.data()};
    tensor.length = bytes_.size();
    tensor.targetDevice = tensorpipe::Device("cuda", 1);
    tensorpipe::Message message;
    message.metadata = EncodeBodyTag({operation, 1, 0, 0});
    message.tensors.push_back(std::move(tensor));
    peer_->SendMessage(lane, std::move(message));
  }
  template <class Expected>
  void ExpectNext() {
    const absl::StatusOr<Frame> frame = peer_->Next();
    ASSERT_THAT(frame.status(), IsOk());
    EXPECT_TRUE(std::holds_alternative<Expected>(*frame));
  }

  std::string bytes_ = std::string(kBytes, 'x');
  std::unique_ptr<ThreadPool> executor_ = std::make_unique<ThreadPool>(2);
  TransferRules rules_;
  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  std::unique_ptr<RawPeer> peer_;
  StatusOutcome down_;
};

// That would be a call of CUDA's on the loop.
TEST_F(LateBodyTest, MemoryIsTakenElsewhereUnlessAllTensorsAreGiven) {
  Outcome<Received> received;
  ReceiveOptions options;
  options.into = {{at::full({kBytes}, 0, OnDevice(1, at::kByte))}, {"given"}};
  link_->Receive(std::move(options), received.done());
  absl::Notification go_on;
  absl::BlockingCounter held(2);
  for (int thread = 0; thread < 2; ++thread) {
    executor_->Run([&] {
      held.DecrementCount();
      go_on.WaitForNotification();
    });
  }
  held.Wait();
  const at::Tensor tensor = at::full({kBytes}, 1, at::kByte);
  SendHeader(1, {.type = 7,
                 .tensors = {tensor, tensor.clone()},
                 .names = {"given", "not given"}});
  HeaderFrame refused;
  refused.operation = 2;
  refused.plan_digest = "another";
  peer_->Send(refused);
  ExpectNext<RefuseFrame>();
  go_on.Notify();
  ExpectNext<GrantFrame>();
}

TEST_F(LateBodyTest, OneForADeviceIsNotReadAndTakesNoMemoryThere) {
  SendHeader(1);
  peer_->Send(CancelFrame{1, absl::CancelledError("changed my mind")});
  ExpectNext<RefuseFrame>();
  software_gpu::TakeCalls();
  SendBody(1, 1);
  ExpectNext<ReopenFrame>();
  EXPECT_THAT(peer_->WaitForEndOf(1), IsOk());
  EXPECT_EQ(software_gpu::TakeCalls()["cudaMalloc"], 0);
  // The link lives, and with it the other lanes.
  Outcome<Received> received;
  link_->Receive({}, received.done());
  SendHeader(2);
  ExpectNext<GrantFrame>();
  SendBody(2, 2);
  peer_->Send(TrailerFrame{2, {0}, {}});
  EXPECT_THAT(received.Wait().status(), IsOk());
}

}  // namespace
}  // namespace tensorferry
