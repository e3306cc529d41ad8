// Values survive the way to protobuf and back; messages with anything wrong in
// them are refused by the field's name. What peers send over gRPC is in
// lying_peer_test; here is what is tedious to send.
#include "control/proto_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/control/test_values.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry::control_proto {
namespace {

using ::tensorferry::testing::GoldenCapabilities;
using ::tensorferry::testing::GoldenGpuHost;
using ::tensorferry::testing::GoldenOffer;
using ::tensorferry::testing::GoldenPlan;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::PeerWith;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

template <class Message>
std::string Bytes(const Message& message) {
  return message.SerializeAsString();
}

// Two files of one name end the process that has both.
TEST(ProtoConversionTest, ProtobufKnowsTheFileByANameOfItsOwn) {
  EXPECT_EQ(pb::Capabilities::descriptor()->file()->name(),
            "tensorferry/control/control.proto");
}

TEST(ProtoConversionTest, CapabilitiesGoThereAndBack) {
  Capabilities inside = PeerWith("c", {"cuda:0"});
  inside.process_id = 4711;
  inside.paths[0].reach = PathCapability::Reach::kSameProcess;
  inside.paths[0].opens_device = true;
  inside.paths[0].only_if_named = true;
  inside.devices.back().not_through_host = "it has no X";
  for (const Capabilities& peer :
       {GoldenCapabilities(), GoldenGpuHost(), PeerWith("a", {}),
        PeerWith("b", {"cuda:127"}), inside}) {
    auto back = FromProto(ToProto(peer), "x");
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(Bytes(ToProto(*back)), Bytes(ToProto(peer)));
    EXPECT_EQ(back->paths, peer.paths);
    EXPECT_EQ(back->peer, peer.peer);
    EXPECT_EQ(back->wire_versions, peer.wire_versions);
    EXPECT_EQ(back->limits, peer.limits);
    EXPECT_EQ(back->user_id, peer.user_id);
    EXPECT_EQ(back->host_id, peer.host_id);
    EXPECT_EQ(back->process_id, peer.process_id);
    EXPECT_EQ(back->streams_per_device, peer.streams_per_device);
    ASSERT_EQ(back->devices.size(), peer.devices.size());
    EXPECT_EQ(back->devices.back().id, peer.devices.back().id);
    EXPECT_EQ(back->devices.back().name, peer.devices.back().name);
    EXPECT_EQ(back->devices.back().uuid, peer.devices.back().uuid);
    EXPECT_EQ(back->devices.back().total_bytes,
              peer.devices.back().total_bytes);
    EXPECT_EQ(back->devices.back().free_bytes, peer.devices.back().free_bytes);
    EXPECT_EQ(back->devices.back().peers, peer.devices.back().peers);
    EXPECT_EQ(back->devices.back().driver, peer.devices.back().driver);
    EXPECT_EQ(back->devices.back().runtime, peer.devices.back().runtime);
    EXPECT_EQ(back->devices.back().not_through_host,
              peer.devices.back().not_through_host);
  }
}

TEST(ProtoConversionTest, PeersOfADeviceAreRisingIndicesOfItsType) {
  const auto convert = [](int device, const std::vector<int>& peers) {
    pb::Capabilities message = ToProto(GoldenGpuHost());
    message.mutable_devices(device)->clear_peers();
    for (int peer : peers) message.mutable_devices(device)->add_peers(peer);
    return FromProto(message, "x").status();
  };
  EXPECT_THAT(convert(1, {1, 2, 127}), IsOk());
  for (const auto& [device, peers, field] :
       std::vector<std::tuple<int, std::vector<int>, std::string>>{
           {1, {-1}, "x.devices[1].peers[0]"},
           {1, {1, 128}, "x.devices[1].peers[1]"},
           {1, {3, 3}, "x.devices[1].peers[1]"},
           {2, {0, 4, 3}, "x.devices[2].peers[2]"},
           {0, {1}, "x.devices[0].peers[0]"},
           {1, std::vector<int>(100000, 7), "x.devices[1].peers[1]"},
       }) {
    EXPECT_THAT(convert(device, peers),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  }
}

TEST(ProtoConversionTest, VersionsOfADeviceAreShortTexts) {
  pb::Capabilities message = ToProto(GoldenGpuHost());
  message.mutable_devices(1)->set_driver(std::string(257, '1'));
  EXPECT_THAT(FromProto(message, "x"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("x.devices[1].driver")));
  message = ToProto(GoldenGpuHost());
  message.mutable_devices(2)->set_runtime("13\x1b[2");
  EXPECT_THAT(FromProto(message, "x"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("x.devices[2].runtime")));
}

TEST(ProtoConversionTest, ADeviceMayBeCarriedAsAnother) {
  Capabilities peer = GoldenGpuHost();
  peer.devices.push_back({.id = {"npu", 0}, .carried_as = DeviceId{"cuda", 1}});
  pb::Capabilities message = ToProto(peer);
  auto back = FromProto(message, "x");
  ASSERT_THAT(back, IsOk());
  EXPECT_EQ(back->devices[1].carried_as, std::nullopt);
  EXPECT_EQ(back->devices[3].carried_as, peer.devices[3].carried_as);
  message.mutable_devices(3)->set_carried_as("cuda:one");
  EXPECT_THAT(FromProto(message, "x"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("x.devices[3].carried_as")));
}

TEST(ProtoConversionTest, APlanNamesADeviceThatIsCarriedAsAnotherOnce) {
  SessionPlan plan = GoldenPlan();
  plan.caller_carried = {{{"npu", 0}, {"cuda", 1}}};
  pb::SessionPlan message = ToProto(plan);
  *message.add_caller_carried() = message.caller_carried(0);
  EXPECT_THAT(FromProto(message, "x"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("x.caller_carried[1].device")));
}

TEST(ProtoConversionTest, OffersGoThereAndBack) {
  for (const Offer& offer : {GoldenOffer(), Offer()}) {
    auto back = FromProto(ToProto(offer), "x");
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(back->to_callee, offer.to_callee);
    EXPECT_EQ(back->to_caller, offer.to_caller);
    EXPECT_EQ(back->caller_streams, offer.caller_streams);
    EXPECT_EQ(back->callee_streams, offer.callee_streams);
    EXPECT_EQ(back->paths, offer.paths);
    EXPECT_EQ(back->digests, offer.digests);
    EXPECT_EQ(back->limits, offer.limits);
    EXPECT_EQ(back->expected_callee, offer.expected_callee);
    EXPECT_EQ(back->expected_epoch, offer.expected_epoch);
  }
}

TEST(ProtoConversionTest, PlansGoThereAndBack) {
  SessionPlan carried = GoldenPlan();
  carried.caller_carried = {{{"npu", 0}, {"cuda", 1}}};
  carried.callee_carried = {{{"npu", 1}, {"cuda", 0}},
                            {{"npu", 2}, {"cuda", 0}}};
  SessionPlan through_host = GoldenPlan();
  through_host.paths[1].through_host = true;
  for (const SessionPlan& plan : {GoldenPlan(), carried, through_host}) {
    auto back = FromProto(ToProto(plan), "x");
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(Digest(*back), Digest(plan));
    EXPECT_EQ(back->paths, plan.paths);
    EXPECT_EQ(ToString(*back), ToString(plan));
  }
}

TEST(ProtoConversionTest, TicketsGoThereAndBack) {
  LaneTicket ticket{"id",
                    {"unix://@x", "tcp://[::1]:4"},
                    std::string("\0\xff 3456789abcdef", 16)};
  auto back = FromProto(ToProto(ticket), "x");
  ASSERT_THAT(back, IsOk());
  EXPECT_EQ(back->session_id, ticket.session_id);
  EXPECT_EQ(back->data_addresses, ticket.data_addresses);
  EXPECT_EQ(back->session_key, ticket.session_key);
}

TEST(ProtoConversionTest, RecordsGoThereAndBack) {
  SessionRecord record;
  record.id = "0123";
  record.plan = GoldenPlan();
  record.opened_at = absl::FromUnixMillis(1234567890123);
  record.lease_until = record.opened_at + absl::Seconds(15);
  record.bytes_sent = 1;
  record.bytes_received = std::numeric_limits<uint64_t>::max();
  for (SessionState state :
       {SessionState::kOpening, SessionState::kOpen, SessionState::kDraining}) {
    record.state = state;
    pb::ListSessionsResponse response;
    *response.add_sessions() = ToProto(record);
    auto back = FromProto(response);
    ASSERT_THAT(back, IsOk());
    ASSERT_THAT(*back, SizeIs(1));
    EXPECT_EQ(back->front().id, record.id);
    EXPECT_EQ(back->front().state, state);
    EXPECT_EQ(back->front().opened_at, record.opened_at);
    EXPECT_EQ(back->front().lease_until, record.lease_until);
    EXPECT_EQ(back->front().bytes_sent, record.bytes_sent);
    EXPECT_EQ(back->front().bytes_received, record.bytes_received);
  }
}

TEST(ProtoConversionTest, EveryStatusCodeGoesThereAndBack) {
  for (int code = 0; code <= 16; ++code) {
    absl::Status status(static_cast<absl::StatusCode>(code),
                        code == 0 ? "" : "why");
    absl::Status back = absl::UnknownError("nothing yet");
    EXPECT_THAT(FromProto(ToProto(status), "x", &back), IsOk());
    EXPECT_EQ(back, status);
  }
}

// A string that is not UTF-8 would make the whole message unreadable.
TEST(ProtoConversionTest, StatusTextIsMadeFitForTheWire) {
  for (const auto& [said, sent] :
       std::vector<std::pair<std::string, std::string>>{
           {"caf\xc3\xa9", "caf\xc3\xa9"},
           {"\xff\xc3(", "?\?("},
           {"one\ntwo\x1b[31m", "one\ntwo?[31m"},
           {"\xed\xa0\x80", "???"},      // a surrogate
           {"\xc0\x80", "??"},           // overlong
           {"\xf0\x9f\x9a", "???"},      // cut
           {"\xf4\x90\x80\x80", "????"}  // past the end of Unicode
       }) {
    pb::Status message = ToProto(absl::InternalError(said));
    EXPECT_EQ(message.message(), sent);
    pb::Status parsed;
    EXPECT_TRUE(parsed.ParseFromString(Bytes(message)));
  }
  std::string endless;
  for (int i = 0; i < 100000; ++i) endless += "\xc3\xa9";
  pb::Status message = ToProto(absl::InternalError(endless));
  EXPECT_LE(message.message().size(), kMaxStatusBytes);
  EXPECT_GT(message.message().size(), kMaxStatusBytes - 16);
  pb::Status parsed;
  EXPECT_TRUE(parsed.ParseFromString(Bytes(message)));
}

TEST(ProtoConversionTest, WhatAPeerSaysHasNoControlCharactersButLineEnds) {
  pb::Status message;
  message.set_code(5);
  message.set_message("one\ntwo\x1b]0;title\x07");
  absl::Status said;
  EXPECT_THAT(FromProto(message, "x", &said), IsOk());
  EXPECT_EQ(said, absl::NotFoundError("one\ntwo?]0;title?"));
}

// A caller from another language need not fill in what it does not care for.
TEST(ProtoConversionTest, WhatIsAbsentFromAnOfferHasItsDefault) {
  auto offer = FromProto(pb::Offer(), "x");
  ASSERT_THAT(offer, IsOk());
  EXPECT_TRUE(offer->digests);
  EXPECT_FALSE(offer->limits.has_value());
  EXPECT_FALSE(offer->to_caller.has_value());
  EXPECT_FALSE(offer->expected_epoch.has_value());
}

TEST(ProtoConversionTest, ZeroIsNotAbsent) {
  pb::Offer message;
  message.set_digests(false);
  message.mutable_limits()->set_rank(0);
  message.mutable_to_caller();
  message.set_expected_epoch(0);
  auto offer = FromProto(message, "x");
  ASSERT_THAT(offer, IsOk());
  EXPECT_FALSE(offer->digests);
  EXPECT_EQ(offer->limits->rank, 0u);
  EXPECT_EQ(offer->limits->tensors, Limits().tensors);
  EXPECT_TRUE(offer->to_caller.has_value());
  EXPECT_TRUE(offer->expected_epoch.has_value());
}

TEST(ProtoConversionTest, FieldsOfTheFutureAreIgnored) {
  std::string bytes = Bytes(ToProto(GoldenOffer()));
  bytes += "\xfa\x7f\x03new";  // field 2047, a string
  pb::Offer message;
  ASSERT_TRUE(message.ParseFromString(bytes));
  EXPECT_THAT(FromProto(message, "x"), IsOk());
}

TEST(ProtoConversionTest, EveryLimitHasItsField) {
  Limits limits;
  limits.message_bytes = 1;
  limits.manifest_bytes = 2;
  limits.tensors = 3;
  limits.rank = 4;
  limits.name_bytes = 5;
  limits.operations_in_flight = 6;
  limits.bytes_in_flight = 7;
  limits.operations_queued = 8;
  limits.bytes_queued = 9;
  limits.headers_waiting = 10;
  limits.eager_bytes = 11;
  limits.body_lanes = 12;
  limits.payload_bytes = 13;
  Offer offer;
  offer.limits = limits;
  EXPECT_EQ(FromProto(ToProto(offer), "x")->limits, limits);
}

TEST(ProtoConversionTest, LeasesAreKeptWithinReason) {
  EXPECT_EQ(LeaseOf(0), absl::Seconds(15));
  EXPECT_EQ(LeaseOf(1), absl::Milliseconds(100));
  EXPECT_EQ(LeaseOf(4000), absl::Seconds(4));
  EXPECT_EQ(LeaseOf(0xffffffff), absl::Hours(1));
  EXPECT_EQ(LeaseMs(absl::InfiniteDuration()), 3600000u);
  EXPECT_EQ(LeaseMs(absl::ZeroDuration()), 100u);
}

}  // namespace
}  // namespace tensorferry::control_proto
