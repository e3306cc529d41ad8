// Version 1 of the control messages, as bytes in the tree: they keep their
// meaning for ever. After a deliberate change of a value in test_values.cc (not
// of the format), write them anew:
//   bazel run //tests/control:golden_test -- --write=$PWD/tests/control/golden
#include <gmock/gmock.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "control/proto_conversion.h"
#include "tests/control/test_values.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry::control_proto {
namespace {

using ::tensorferry::testing::GoldenCapabilities;
using ::tensorferry::testing::GoldenGpuHost;
using ::tensorferry::testing::GoldenOffer;
using ::tensorferry::testing::GoldenPlan;
using ::tensorferry::testing::IsOk;

constexpr absl::string_view kFolder = "tests/control/golden";

std::string Encode(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

pb::SessionRequest OpenRequest() {
  pb::SessionRequest request;
  *request.mutable_open()->mutable_offer() = ToProto(GoldenOffer());
  *request.mutable_open()->mutable_caller() = ToProto(GoldenCapabilities());
  request.mutable_open()->set_lease_ms(15000);
  return request;
}

pb::SessionResponse AcceptedResponse() {
  pb::SessionResponse response;
  pb::Accepted* accepted = response.mutable_accepted();
  *accepted->mutable_plan() = ToProto(GoldenPlan());
  accepted->set_plan_digest(Digest(GoldenPlan()));
  *accepted->mutable_ticket() =
      ToProto(LaneTicket{"00112233445566778899aabbccddeeff",
                         {"unix://@x", "tcp://127.0.0.1:40411"},
                         std::string("\0\x01\x02\x03\x04\x05\x06\x07"
                                     "\x08\x09\x0a\x0b\x0c\x0d\x0e\xff",
                                     16)});
  accepted->set_lease_ms(15000);
  return response;
}

pb::ExplainResponse Explained() {
  Explanation explanation;
  explanation.plan = GoldenPlan();
  explanation.objections = {absl::PermissionDeniedError("not there"),
                            absl::FailedPreconditionError("no path")};
  return ToProto(explanation);
}

pb::ListSessionsResponse Listed() {
  SessionRecord record;
  record.id = "00112233445566778899aabbccddeeff";
  record.plan = GoldenPlan();
  record.state = SessionState::kDraining;
  record.opened_at = absl::FromUnixMillis(1700000000000);
  record.lease_until = absl::FromUnixMillis(1700000015000);
  record.bytes_sent = 1 << 20;
  record.bytes_received = 3;
  pb::ListSessionsResponse response;
  *response.add_sessions() = ToProto(record);
  return response;
}

// Every message of the protocol, by the name of its file.
std::map<std::string, std::string> Messages() {
  std::map<std::string, std::string> messages;
  pb::SessionRequest request;
  messages["request_open"] = Encode(OpenRequest());
  request.mutable_heartbeat();
  messages["request_heartbeat"] = Encode(request);
  request.mutable_drain();
  messages["request_drain"] = Encode(request);
  *request.mutable_goodbye()->mutable_status() =
      ToProto(absl::DataLossError("digest of layer.0 differs"));
  messages["request_goodbye"] = Encode(request);
  pb::SessionResponse response;
  messages["response_accepted"] = Encode(AcceptedResponse());
  response.mutable_opened();
  messages["response_opened"] = Encode(response);
  response.mutable_heartbeat();
  messages["response_heartbeat"] = Encode(response);
  response.mutable_drain();
  messages["response_drain"] = Encode(response);
  *response.mutable_goodbye()->mutable_status() = ToProto(absl::OkStatus());
  messages["response_goodbye"] = Encode(response);
  pb::GetCapabilitiesResponse capabilities;
  *capabilities.mutable_capabilities() = ToProto(GoldenCapabilities());
  messages["capabilities"] = Encode(capabilities);
  *capabilities.mutable_capabilities() = ToProto(GoldenGpuHost());
  messages["capabilities_gpus"] = Encode(capabilities);
  pb::ExplainRequest explain;
  *explain.mutable_offer() = ToProto(GoldenOffer());
  *explain.mutable_caller() = ToProto(GoldenCapabilities());
  messages["explain_request"] = Encode(explain);
  messages["explain_response"] = Encode(Explained());
  messages["sessions"] = Encode(Listed());
  pb::CloseSessionRequest close;
  close.set_session_id("00112233445566778899aabbccddeeff");
  messages["close_session"] = Encode(close);
  return messages;
}

std::string Read(const std::string& name) {
  std::ifstream file(absl::StrCat(kFolder, "/", name, ".v1.bin"),
                     std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <class Message>
Message Parsed(const std::string& name) {
  Message message;
  EXPECT_TRUE(message.ParseFromString(Read(name))) << name;
  return message;
}

TEST(GoldenTest, MessagesAreEncodedAsInVersion1) {
  for (const auto& [name, bytes] : Messages()) {
    EXPECT_EQ(bytes, Read(name)) << name;
  }
}

TEST(GoldenTest, OpenOfVersion1IsUnderstood) {
  auto request = Parsed<pb::SessionRequest>("request_open");
  ASSERT_TRUE(request.has_open());
  auto offer = FromProto(request.open().offer(), "offer");
  ASSERT_THAT(offer, IsOk());
  EXPECT_EQ(offer->to_callee, GoldenOffer().to_callee);
  EXPECT_EQ(offer->to_caller, GoldenOffer().to_caller);
  EXPECT_EQ(offer->expected_epoch, GoldenOffer().expected_epoch);
  EXPECT_EQ(offer->caller_streams, GoldenOffer().caller_streams);
  EXPECT_FALSE(offer->digests);
  auto caller = FromProto(request.open().caller(), "caller");
  ASSERT_THAT(caller, IsOk());
  EXPECT_EQ(caller->peer, GoldenCapabilities().peer);
  EXPECT_EQ(caller->paths, GoldenCapabilities().paths);
  EXPECT_EQ(caller->limits, GoldenCapabilities().limits);
  EXPECT_EQ(LeaseOf(request.open().lease_ms()), absl::Seconds(15));
}

TEST(GoldenTest, AcceptedOfVersion1IsUnderstood) {
  auto response = Parsed<pb::SessionResponse>("response_accepted");
  ASSERT_TRUE(response.has_accepted());
  auto plan = FromProto(response.accepted().plan(), "plan");
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(ToString(*plan), ToString(GoldenPlan()));
  EXPECT_EQ(Digest(*plan), response.accepted().plan_digest());
  auto ticket = FromProto(response.accepted().ticket(), "ticket");
  ASSERT_THAT(ticket, IsOk());
  EXPECT_THAT(ticket->data_addresses,
              ::testing::ElementsAre("unix://@x", "tcp://127.0.0.1:40411"));
  EXPECT_EQ(ticket->session_key[15], '\xff');
}

TEST(GoldenTest, SignalsOfVersion1AreUnderstood) {
  EXPECT_TRUE(Parsed<pb::SessionRequest>("request_heartbeat").has_heartbeat());
  EXPECT_TRUE(Parsed<pb::SessionRequest>("request_drain").has_drain());
  EXPECT_TRUE(Parsed<pb::SessionResponse>("response_opened").has_opened());
  EXPECT_TRUE(
      Parsed<pb::SessionResponse>("response_heartbeat").has_heartbeat());
  EXPECT_TRUE(Parsed<pb::SessionResponse>("response_drain").has_drain());
  absl::Status said;
  auto goodbye = Parsed<pb::SessionRequest>("request_goodbye");
  EXPECT_THAT(FromProto(goodbye.goodbye().status(), "status", &said), IsOk());
  EXPECT_EQ(said, absl::DataLossError("digest of layer.0 differs"));
  auto end = Parsed<pb::SessionResponse>("response_goodbye");
  ASSERT_TRUE(end.has_goodbye());
  EXPECT_THAT(FromProto(end.goodbye().status(), "status", &said), IsOk());
  EXPECT_THAT(said, IsOk());
}

TEST(GoldenTest, CallsOfVersion1AreUnderstood) {
  auto capabilities = FromProto(
      Parsed<pb::GetCapabilitiesResponse>("capabilities").capabilities(), "");
  ASSERT_THAT(capabilities, IsOk());
  EXPECT_EQ(capabilities->devices[1].uuid, "GPU-0123");
  auto explain = Parsed<pb::ExplainRequest>("explain_request");
  EXPECT_THAT(FromProto(explain.offer(), "offer"), IsOk());
  EXPECT_THAT(FromProto(explain.caller(), "caller"), IsOk());
  auto explanation = FromProto(Parsed<pb::ExplainResponse>("explain_response"));
  ASSERT_THAT(explanation, IsOk());
  EXPECT_THAT(explanation->objections,
              ::testing::ElementsAre(absl::PermissionDeniedError("not there"),
                                     absl::FailedPreconditionError("no path")));
  auto sessions = FromProto(Parsed<pb::ListSessionsResponse>("sessions"));
  ASSERT_THAT(sessions, IsOk());
  EXPECT_EQ(sessions->front().state, SessionState::kDraining);
  EXPECT_EQ(Parsed<pb::CloseSessionRequest>("close_session").session_id(),
            "00112233445566778899aabbccddeeff");
}

void Write(absl::string_view folder) {
  for (const auto& [name, bytes] : Messages()) {
    std::string path = absl::StrCat(folder, "/", name, ".v1.bin");
    std::ofstream(path, std::ios::binary) << bytes;
    std::cout << path << "\n";
  }
}

}  // namespace
}  // namespace tensorferry::control_proto

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  absl::string_view argument = argc > 1 ? argv[1] : "";
  if (absl::ConsumePrefix(&argument, "--write=")) {
    tensorferry::control_proto::Write(argument);
    return 0;
  }
  return RUN_ALL_TESTS();
}
