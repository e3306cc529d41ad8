// As what memory of a third party's device type crosses, the rules of both
// sides say: what is sent is held against them, and so is what comes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "examples/toy_device/toy_device.h"
#include "serialization/serialize.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "tests/transfer/raw_peer.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

using absl::StatusCode;

constexpr int64_t kBytes = 1 << 20;
// The toy's memory is the host's. Who has these rules takes it for a GPU's.
CarriedDevices AsGpu() { return {{{"privateuseone", 0}, {"cuda", 0}}}; }

class CarriedAsTest : public LinkTest {
 protected:
  static TransferRules Rules(const std::string& there,
                             CarriedDevices own_carried,
                             CarriedDevices peer_carried) {
    TransferRules rules = BasicRules();
    rules.digests = false;
    rules.outgoing.rules = {*ParsePlacementRule(there)};
    rules.incoming = rules.outgoing;
    rules.send_streams = {c10::Stream(c10::Stream::DEFAULT, toy::kDevice)};
    rules.receive_streams = rules.send_streams;
    rules.own_carried = std::move(own_carried);
    rules.peer_carried = std::move(peer_carried);
    return rules;
  }
  static TensorMessage MessageFor(const TransferRules& rules) {
    const at::Tensor host = Pattern(kBytes, 1);
    const bool is_the_toys = !rules.outgoing.rules[0].source.is_cpu();
    return {.type = 7, .tensors = {is_the_toys ? toy::ToDevice(host) : host}};
  }

  // What becomes of a message whose bytes come as those of the host.
  absl::Status Receive(const TransferRules& rules) {
    auto endpoint = Endpoint::Create({.executor = &executor_});
    if (!endpoint.ok()) return endpoint.status();
    StatusOutcome up;
    absl::StatusOr<Endpoint::Expected> expected =
        (*endpoint)->Expect(rules, up.done(), nullptr);
    if (!expected.ok()) return expected.status();
    absl::StatusOr<std::unique_ptr<RawPeer>> peer =
        RawPeer::Connect(expected->addresses, expected->key, rules);
    if (!peer.ok()) return peer.status();
    Outcome<Received> received;
    expected->link->Receive({}, received.done());
    HeaderFrame header;
    header.operation = 1;
    header.plan_digest = rules.plan_digest;
    absl::StatusOr<WriteBuffers> buffers =
        Serialize(MessageFor(rules),
                  {.placement = rules.incoming, .streams = rules.send_streams});
    if (!buffers.ok()) return buffers.status();
    header.manifest = EncodeManifest(buffers->manifest());
    (*peer)->Send(header);
    absl::StatusOr<Frame> granted = (*peer)->Next();
    if (!granted.ok()) return granted.status();
    EXPECT_TRUE(std::holds_alternative<GrantFrame>(*granted));
    (*peer)->SendBody(1, {1, 1, 0, 0}, {kBytes});
    (*peer)->Send(TrailerFrame{1, {}, {}});
    return received.Wait().status();
  }

  // What becomes of a message over a path that carries the host's bytes only.
  absl::Status Send(const TransferRules& rules) {
    EndpointOptions options;
    options.executor = &executor_;
    absl::StatusOr<InProcessPair> pair = MakeInProcessPair(
        options, options, rules,
        Rules(ToString(rules.outgoing.rules[0]), /*own_carried=*/{},
              /*peer_carried=*/{}));
    if (!pair.ok()) return pair.status();
    pair_ = std::make_unique<InProcessPair>(*std::move(pair));
    return Transfer(MessageFor(rules)).status();
  }
};

TEST_F(CarriedAsTest, ABodyThatDoesNotComeFromWhatThePeersDeviceIsIsRefused) {
  EXPECT_THAT(Receive(Rules("privateuseone:0=cpu", {}, {})), IsOk());
  EXPECT_THAT(Receive(Rules("privateuseone:0=cpu", AsGpu(), {})), IsOk());
  EXPECT_THAT(Receive(Rules("privateuseone:0=cpu", {}, AsGpu())),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("not from privateuseone:0 to cpu")));
}

TEST_F(CarriedAsTest, ABodyThatDoesNotGoToWhatOnesOwnDeviceIsIsRefused) {
  EXPECT_THAT(Receive(Rules("cpu=privateuseone:0", {}, {})), IsOk());
  EXPECT_THAT(Receive(Rules("cpu=privateuseone:0", {}, AsGpu())), IsOk());
  EXPECT_THAT(Receive(Rules("cpu=privateuseone:0", AsGpu(), {})),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("not from cpu to privateuseone:0")));
}

TEST_F(CarriedAsTest, WhatNoPathCarriesFromOnesOwnDeviceIsNotSent) {
  EXPECT_THAT(Send(Rules("privateuseone:0=cpu", {}, AsGpu())), IsOk());
  EXPECT_THAT(
      Send(Rules("privateuseone:0=cpu", AsGpu(), {})),
      StatusIs(StatusCode::kFailedPrecondition,
               HasSubstr("no path of this session carries cuda:0 to cpu")));
}

TEST_F(CarriedAsTest, WhatNoPathCarriesToThePeersDeviceIsNotSent) {
  EXPECT_THAT(Send(Rules("cpu=privateuseone:0", AsGpu(), {})), IsOk());
  EXPECT_THAT(
      Send(Rules("cpu=privateuseone:0", {}, AsGpu())),
      StatusIs(StatusCode::kFailedPrecondition,
               HasSubstr("no path of this session carries cpu to cuda:0")));
}

}  // namespace
}  // namespace tensorferry
