// A peer that speaks valid gRPC and lies in it gets a status code; it never
// gets a crash or a hang, nor does it harm other sessions.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "control/control_client.h"
#include "control/proto_conversion.h"
#include "tests/control/raw_peer.h"
#include "tests/control/test_peers.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kTimeout = absl::Seconds(30);
constexpr int kInvalidArgument =
    static_cast<int>(absl::StatusCode::kInvalidArgument);
constexpr int kResourceExhausted =
    static_cast<int>(absl::StatusCode::kResourceExhausted);

// Callers that lie.

class LyingCallerTest : public ::testing::Test {
 protected:
  // The service still works for an honest caller, and has no other session.
  void ExpectHealthy() {
    RawCaller caller(server_.address());
    ASSERT_TRUE(caller.Write(Honest()));
    pb::SessionResponse response;
    ASSERT_TRUE(caller.Read(&response));
    EXPECT_TRUE(response.has_accepted());
    EXPECT_THAT(server_.control().sessions().List(), SizeIs(1));
  }
  static pb::SessionRequest Honest() {
    return OpenMessage(Offer(), PeerWith("alice", {}));
  }
  std::string Accept(RawCaller& caller) {
    caller.Write(Honest());
    pb::SessionResponse response;
    EXPECT_TRUE(caller.Read(&response) && response.has_accepted());
    return response.accepted().ticket().session_id();
  }

  // The real clock runs; on a slow machine a minute is nothing.
  static ControlServiceOptions Patient() {
    ControlServiceOptions options;
    options.lease = absl::Hours(1);
    return options;
  }

  FakeHost host_{PeerWith("bob", {"cuda:0"})};
  TestServer server_{&host_, Patient()};
};

TEST_F(LyingCallerTest, FirstMessageMustBeOpen) {
  pb::SessionRequest drain, goodbye, empty;
  drain.mutable_drain();
  goodbye.mutable_goodbye();
  for (const auto& first : {HeartbeatRequest(), drain, goodbye, empty}) {
    RawCaller caller(server_.address());
    caller.Write(first);
    RawCaller::End end = caller.ReadToEnd();
    EXPECT_EQ(end.goodbye, kInvalidArgument);
    EXPECT_THAT(end.why, HasSubstr("open"));
    EXPECT_EQ(end.status.error_code(), kInvalidArgument);
  }
  EXPECT_EQ(host_.admitted(), 0);
  ExpectHealthy();
}

TEST_F(LyingCallerTest, OpenWithAnythingWrongNamesTheField) {
  struct Case {
    std::string field;
    std::function<void(pb::Open&)> spoil;
  };
  using Rule = pb::PlacementRule;
  auto rule = [](pb::Open& o) -> Rule* {
    return o.mutable_offer()->mutable_to_callee()->add_rules();
  };
  for (const Case& c : std::vector<Case>{
           {"open.caller.peer.name: is empty",
            [](auto& o) { o.clear_caller(); }},
           {"open.offer.to_callee.rules: 1000000 entries, at most 1024",
            [&](auto& o) {
              for (int i = 0; i < 1000000; ++i) rule(o);
            }},
           {"open.offer.to_callee.rules[0]: has neither",
            [&](auto& o) { rule(o); }},
           {"open.offer.to_callee.rules[1].target",
            [&](auto& o) {
              rule(o)->set_source("cpu");
              o.mutable_offer()
                  ->mutable_to_callee()
                  ->mutable_rules(0)
                  ->set_target("cpu");
              rule(o)->set_source("cpu");
            }},
           {"open.offer.to_callee.rules[0].source",
            [&](auto& o) { rule(o)->set_source("cuda:999999999999"); }},
           {"open.offer.to_callee.rules[0].name_glob: 2000 bytes, at most",
            [&](auto& o) { rule(o)->set_name_glob(std::string(2000, '*')); }},
           {"open.offer.to_callee.rules: 66000 bytes of name_glob, at most",
            [&](auto& o) {
              for (int i = 0; i < 66; ++i) {
                auto* named = rule(o);
                named->set_name_glob(std::string(1000, 'x'));
                named->set_target("cpu");
              }
            }},
           {"open.offer.to_callee.rules[0].name_glob: has a control character",
            [&](auto& o) { rule(o)->set_name_glob("a\nb"); }},
           {"open.offer.caller_streams[0].kind: 77",
            [](auto& o) {
              auto* stream = o.mutable_offer()->add_caller_streams();
              stream->set_device("cuda:0");
              stream->set_kind(static_cast<pb::StreamKind>(77));
            }},
           {"open.offer.callee_streams: 100000 entries, at most",
            [](auto& o) {
              for (int i = 0; i < 100000; ++i) {
                o.mutable_offer()->add_callee_streams()->set_device("cuda:0");
              }
            }},
           {"open.caller.paths[0].reach: -5",
            [](auto& o) {
              o.mutable_caller()->mutable_paths(0)->set_reach(
                  static_cast<pb::Reach>(-5));
            }},
           {"open.caller.paths: 100 entries",
            [](auto& o) {
              while (o.caller().paths_size() < 100) {
                *o.mutable_caller()->add_paths() = o.caller().paths(0);
              }
            }},
           {"open.caller.devices[0].id",
            [](auto& o) {
              o.mutable_caller()->mutable_devices(0)->set_id("");
            }},
           {"open.caller.devices: 129 entries",
            [](auto& o) {
              while (o.caller().devices_size() < 129) {
                o.mutable_caller()->add_devices()->set_id("cpu");
              }
            }},
           {"open.caller.wire_versions.lowest: 0",
            [](auto& o) { o.mutable_caller()->clear_wire_versions(); }},
           {"open.caller.wire_versions.highest: 1, want 3..",
            [](auto& o) {
              o.mutable_caller()->mutable_wire_versions()->set_lowest(3);
            }},
           {"open.caller.streams_per_device: -1",
            [](auto& o) { o.mutable_caller()->set_streams_per_device(-1); }},
           {"open.caller.host_id: 70000 bytes",
            [](auto& o) {
              o.mutable_caller()->set_host_id(std::string(70000, 'x'));
            }},
       }) {
    SCOPED_TRACE(c.field);
    pb::SessionRequest request = Honest();
    c.spoil(*request.mutable_open());
    RawCaller caller(server_.address());
    caller.Write(request);
    RawCaller::End end = caller.ReadToEnd();
    EXPECT_EQ(end.goodbye, kInvalidArgument);
    EXPECT_THAT(end.why, HasSubstr(c.field));
    EXPECT_EQ(end.status.error_code(), kInvalidArgument);
  }
  EXPECT_EQ(host_.admitted(), 0);
  ExpectHealthy();
}

TEST_F(LyingCallerTest, MessageBeyondGrpcsLimitIsRefused) {
  pb::SessionRequest request = Honest();
  request.mutable_open()->mutable_caller()->set_host_id(
      std::string(8 << 20, 'x'));
  RawCaller caller(server_.address());
  caller.Write(request);
  EXPECT_FALSE(caller.ReadToEnd().status.ok());
  ExpectHealthy();
}

TEST_F(LyingCallerTest, SecondOpenEndsTheSession) {
  RawCaller caller(server_.address());
  std::string id = Accept(caller);
  caller.Write(Honest());
  EXPECT_EQ(caller.ReadToEnd().goodbye, kInvalidArgument);
  EXPECT_THAT(
      host_.Of(id).events->AwaitEnd(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("second `open`")));
  EXPECT_EQ(host_.admitted(), 1);
  ExpectHealthy();
}

TEST_F(LyingCallerTest, TwoOpensAtOnceMakeOneSession) {
  RawCaller caller(server_.address());
  caller.Write(Honest());
  caller.Write(Honest());
  EXPECT_EQ(caller.ReadToEnd().goodbye, kInvalidArgument);
  EXPECT_EQ(host_.admitted(), 1);
  ExpectHealthy();
}

TEST_F(LyingCallerTest, EmptyMessageEndsTheSession) {
  RawCaller caller(server_.address());
  std::string id = Accept(caller);
  caller.Write(pb::SessionRequest());
  EXPECT_EQ(caller.ReadToEnd().goodbye, kInvalidArgument);
  EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(LyingCallerTest, GoodbyeWithACodeThatNobodyKnowsIsNamed) {
  for (int code : {17, -1, 1 << 30}) {
    RawCaller caller(server_.address());
    std::string id = Accept(caller);
    pb::SessionRequest request;
    request.mutable_goodbye()->mutable_status()->set_code(code);
    caller.Write(request);
    EXPECT_EQ(caller.ReadToEnd().goodbye, kInvalidArgument);
    EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("goodbye.status.code")));
  }
}

TEST_F(LyingCallerTest, FloodOfHeartbeatsIsBounded) {
  RawCaller caller(server_.address());
  std::string id = Accept(caller);
  int written = 0;
  while (written < 10000000 && caller.Write(HeartbeatRequest())) ++written;
  EXPECT_LT(written, 10000000);
  EXPECT_EQ(caller.ReadToEnd().goodbye, kResourceExhausted);
  EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ExpectHealthy();
}

TEST_F(LyingCallerTest, LeavingWithoutAGoodbyeIsUnavailable) {
  for (bool cancel : {false, true}) {
    RawCaller caller(server_.address());
    std::string id = Accept(caller);
    cancel ? caller.Cancel() : caller.WritesDone();
    EXPECT_THAT(host_.Of(id).events->AwaitEnd(),
                StatusIs(absl::StatusCode::kUnavailable,
                         HasSubstr("without a goodbye")));
    caller.ReadToEnd();
  }
  ExpectHealthy();
}

TEST_F(LyingCallerTest, LeavingBeforeOpenLeavesNothing) {
  for (bool cancel : {false, true}) {
    RawCaller caller(server_.address());
    cancel ? caller.Cancel() : caller.WritesDone();
    EXPECT_FALSE(caller.ReadToEnd().status.ok());
  }
  EXPECT_EQ(host_.admitted(), 0);
  ExpectHealthy();
}

TEST(UnopenedStreamsTest, AreBounded) {
  FakeHost host(PeerWith("bob", {}));
  ControlServiceOptions options;
  options.max_sessions = 2;
  TestServer server(&host, options);
  std::vector<std::unique_ptr<RawCaller>> silent;
  for (int i = 0; i < 66; ++i) {
    silent.push_back(std::make_unique<RawCaller>(server.address()));
  }
  int refused = 0;
  while (refused == 0) {
    RawCaller caller(server.address());
    caller.WritesDone();
    refused += caller.ReadToEnd().status.error_code() == kResourceExhausted;
  }
  silent.clear();
  bool accepted = false;
  while (!accepted) {  // once the service has seen them go
    RawCaller honest(server.address());
    honest.Write(OpenMessage(Offer(), PeerWith("alice", {})));
    pb::SessionResponse response;
    accepted = honest.Read(&response) && response.has_accepted();
  }
}

TEST_F(LyingCallerTest, UnaryCallsNameWhatIsWrong) {
  auto stub = StubFor(server_.address());
  {
    grpc::ClientContext context;
    pb::ExplainResponse response;
    grpc::Status status =
        stub->Explain(&context, pb::ExplainRequest(), &response);
    EXPECT_EQ(status.error_code(), kInvalidArgument);
    EXPECT_THAT(status.error_message(), HasSubstr("caller.peer.name"));
  }
  for (const std::string& id : {std::string(), std::string(100000, 'x'),
                                std::string("\n\t"), std::string(32, '0')}) {
    grpc::ClientContext context;
    pb::CloseSessionRequest request;
    pb::CloseSessionResponse response;
    request.set_session_id(id);
    grpc::Status status = stub->CloseSession(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  }
}

TEST_F(LyingCallerTest, BytesThatAreNoMessageAreAnError) {
  grpc::GenericStub stub(grpc::CreateChannel(
      server_.address(), grpc::InsecureChannelCredentials()));
  for (const char* method : {"GetCapabilities", "Explain", "OpenSession",
                             "ListSessions", "CloseSession", "Nonsense"}) {
    grpc::ClientContext context;
    grpc::Slice slice("\xff\xff\xff\xff garbage");
    grpc::ByteBuffer request(&slice, 1), response;
    grpc::Status status;
    absl::Notification done;
    stub.UnaryCall(
        &context, absl::StrCat("/tensorferry.control.v1.Control/", method),
        grpc::StubOptions(), &request, &response, [&](grpc::Status got) {
          status = std::move(got);
          done.Notify();
        });
    done.WaitForNotification();
    EXPECT_FALSE(status.ok()) << method;
  }
  ExpectHealthy();
}

// Callees that lie.

class LyingCalleeTest : public ::testing::Test {
 protected:
  absl::StatusOr<ControlClient::Accepted> Open() {
    return Await<ControlClient::Accepted>(
        [&](Done<ControlClient::Accepted> done) {
          client_->OpenSession(offer_, caller_, events_, kTimeout,
                               std::move(done));
        });
  }
  pb::SessionResponse Honest() {
    return AcceptedMessage(offer_, caller_, PeerWith("bob", {"cuda:0"}));
  }
  // The callee writes this, then waits for the caller to leave.
  void Answer(std::vector<pb::SessionResponse> answers) {
    callee_.on_open = [answers = std::move(answers)](
                          grpc::ServerContext*, RawCallee::Stream* stream) {
      for (const pb::SessionResponse& answer : answers) stream->Write(answer);
      pb::SessionRequest request;
      while (stream->Read(&request)) {
      }
      return grpc::Status::OK;
    };
  }
  static pb::SessionResponse Goodbye(int code) {
    pb::SessionResponse response;
    response.mutable_goodbye()->mutable_status()->set_code(code);
    response.mutable_goodbye()->mutable_status()->set_message("enough");
    return response;
  }

  Offer offer_ = OfferOf({"cpu=cuda:0"});
  Capabilities caller_ = PeerWith("alice", {"cuda:0"});
  std::shared_ptr<HeardEvents> events_ = std::make_shared<HeardEvents>();
  RawCallee callee_;
  std::unique_ptr<ControlClient> client_ =
      *ControlClient::Create(callee_.address());
};

TEST_F(LyingCalleeTest, FirstAnswerWithAnythingWrongIsNamed) {
  using Code = absl::StatusCode;
  struct Case {
    Code code;
    std::string message;
    std::function<void(pb::SessionResponse&)> spoil;
  };
  auto plan = [](pb::SessionResponse& r) {
    return r.mutable_accepted()->mutable_plan();
  };
  auto redigest = [](pb::SessionResponse& r) {
    auto plan = control_proto::FromProto(r.accepted().plan(), "plan");
    r.mutable_accepted()->set_plan_digest(Digest(*plan));
  };
  for (const Case& c : std::vector<Case>{
           {Code::kInvalidArgument, "first answer", [](auto& r) { r.Clear(); }},
           {Code::kInvalidArgument, "first answer",
            [](auto& r) { r.mutable_opened(); }},
           {Code::kInvalidArgument, "first answer",
            [](auto& r) { r.mutable_heartbeat(); }},
           {Code::kInvalidArgument, "goodbye without an error",
            [](auto& r) { r.mutable_goodbye(); }},
           {Code::kInvalidArgument, "goodbye.status.code: 99",
            [](auto& r) { r = Goodbye(99); }},
           {Code::kInvalidArgument, "goodbye.status.message: 100000 bytes",
            [](auto& r) {
              r = Goodbye(5);
              r.mutable_goodbye()->mutable_status()->set_message(
                  std::string(100000, 'x'));
            }},
           {Code::kInvalidArgument, "accepted.plan.caller.name",
            [](auto& r) { r.mutable_accepted()->clear_plan(); }},
           {Code::kInvalidArgument, "accepted.plan.callee_streams[0].kind",
            [&](auto& r) {
              plan(r)->mutable_callee_streams(0)->set_kind(
                  static_cast<pb::StreamKind>(44));
            }},
           {Code::kInvalidArgument, "accepted.plan.paths: 100000 entries",
            [&](auto& r) {
              while (plan(r)->paths_size() < 100000) plan(r)->add_paths();
            }},
           {Code::kInvalidArgument, "accepted.plan.paths[0].ranked",
            [&](auto& r) {
              for (int i = 0; i < 10000; ++i) {
                plan(r)->mutable_paths(0)->add_ranked("x");
              }
            }},
           {Code::kInvalidArgument, "accepted.plan.wire_version: -1",
            [&](auto& r) { plan(r)->set_wire_version(-1); }},
           {Code::kInvalidArgument, "accepted.ticket.session_key: 15 bytes",
            [](auto& r) {
              r.mutable_accepted()->mutable_ticket()->set_session_key(
                  std::string(15, 'k'));
            }},
           {Code::kInvalidArgument, "accepted.ticket.session_id: is empty",
            [](auto& r) {
              r.mutable_accepted()->mutable_ticket()->clear_session_id();
            }},
           {Code::kInvalidArgument, "accepted.ticket.data_addresses[1]: 90000",
            [](auto& r) {
              r.mutable_accepted()->mutable_ticket()->add_data_addresses(
                  std::string(90000, 'x'));
            }},
           {Code::kInvalidArgument, "accepted.ticket.data_addresses: is empty",
            [](auto& r) {
              r.mutable_accepted()->mutable_ticket()->clear_data_addresses();
            }},
           {Code::kInvalidArgument, "accepted.ticket.data_addresses: 17",
            [](auto& r) {
              for (int i = 0; i < 16; ++i) {
                r.mutable_accepted()->mutable_ticket()->add_data_addresses("x");
              }
            }},
           {Code::kFailedPrecondition, "accepted.plan_digest",
            [](auto& r) { r.mutable_accepted()->set_plan_digest("0"); }},
           {Code::kFailedPrecondition, "accepted.plan_digest",
            [&](auto& r) { plan(r)->set_wire_version(9); }},
           {Code::kFailedPrecondition, "wire_version: 9",
            [&](auto& r) {
              plan(r)->set_wire_version(9);
              redigest(r);
            }},
           {Code::kFailedPrecondition, "to_callee",
            [&](auto& r) {
              plan(r)->mutable_to_callee()->mutable_rules(0)->set_target("cpu");
              redigest(r);
            }},
           {Code::kFailedPrecondition, "digests: off",
            [&](auto& r) {
              plan(r)->set_digests(false);
              redigest(r);
            }},
       }) {
    SCOPED_TRACE(c.message);
    pb::SessionResponse answer = Honest();
    c.spoil(answer);
    Answer({answer});
    EXPECT_THAT(Open(), StatusIs(c.code, HasSubstr(c.message)));
  }
  EXPECT_FALSE(events_->ended());
}

TEST_F(LyingCalleeTest, RefusalInAGoodbyeIsTheAnswer) {
  Answer({Goodbye(7)});
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kPermissionDenied, "enough"));
}

TEST_F(LyingCalleeTest, RefusalByGrpcIsTheAnswer) {
  callee_.on_open = [](auto*, auto*) {
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "who are you");
  };
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnauthenticated,
                               HasSubstr("who are you")));
}

TEST_F(LyingCalleeTest, NoAnswerAtAllIsUnavailable) {
  callee_.on_open = [](auto*, auto*) { return grpc::Status::OK; };
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("without a goodbye")));
}

TEST_F(LyingCalleeTest, MessagesOutOfPlaceEndTheSession) {
  using Code = absl::StatusCode;
  std::vector<pb::SessionResponse> flood(5000, HeartbeatResponse());
  for (const auto& [code, then] :
       std::vector<std::pair<Code, std::vector<pb::SessionResponse>>>{
           {Code::kInvalidArgument, {Honest()}},
           {Code::kInvalidArgument, {pb::SessionResponse()}},
           {Code::kInvalidArgument, {Goodbye(-3)}},
           {Code::kDataLoss, {Goodbye(15), Honest(), Goodbye(3)}},
           {Code::kResourceExhausted, flood},
       }) {
    events_ = std::make_shared<HeardEvents>();
    std::vector<pb::SessionResponse> answers = {Honest()};
    answers.insert(answers.end(), then.begin(), then.end());
    Answer(answers);
    EXPECT_THAT(Open(), IsOk());
    EXPECT_THAT(events_->AwaitEnd(), StatusIs(code));
  }
}

TEST_F(LyingCalleeTest, LeavingWithoutAGoodbyeIsUnavailable) {
  for (const grpc::Status& status :
       {grpc::Status::OK,
        grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no reason")}) {
    events_ = std::make_shared<HeardEvents>();
    callee_.on_open = [&](auto*, RawCallee::Stream* stream) {
      stream->Write(Honest());
      return status;
    };
    EXPECT_THAT(Open(), IsOk());
    EXPECT_THAT(events_->AwaitEnd(), StatusIs(absl::StatusCode::kUnavailable));
  }
}

TEST_F(LyingCalleeTest, UnaryAnswersWithAnythingWrongAreNamed) {
  callee_.capabilities = [] {
    pb::GetCapabilitiesResponse response;
    *response.mutable_capabilities() =
        control_proto::ToProto(PeerWith("bob", {}));
    response.mutable_capabilities()->mutable_paths(1)->set_from_type("CPU!");
    return response;
  };
  EXPECT_THAT(Await<Capabilities>([&](Done<Capabilities> done) {
                client_->GetCapabilities(kTimeout, std::move(done));
              }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("capabilities.paths[1].from_type")));

  callee_.explain = [&] {
    pb::ExplainResponse response;
    *response.mutable_plan() = Honest().accepted().plan();
    response.add_objections();
    return response;
  };
  EXPECT_THAT(Await<Explanation>([&](Done<Explanation> done) {
                client_->Explain(offer_, caller_, kTimeout, std::move(done));
              }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("objections[0]: is OK")));

  callee_.sessions = [&] {
    pb::ListSessionsResponse response;
    response.add_sessions()->set_session_id("1");
    *response.mutable_sessions(0)->mutable_plan() = Honest().accepted().plan();
    return response;
  };
  EXPECT_THAT(Await<std::vector<SessionRecord>>(
                  [&](Done<std::vector<SessionRecord>> done) {
                    client_->ListSessions(kTimeout, std::move(done));
                  }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("sessions[0].state: 0")));
}

TEST_F(LyingCalleeTest, UnaryCallsEndByTheirDeadline) {
  EXPECT_THAT(Await<Capabilities>([&](Done<Capabilities> done) {
                client_->GetCapabilities(absl::Milliseconds(50),
                                         std::move(done));
              }),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr(callee_.address())));
}

TEST_F(LyingCalleeTest, DestroyedClientCancelsWhatIsUnderWay) {
  absl::Status unary, session;
  client_->GetCapabilities(kTimeout, [&](absl::StatusOr<Capabilities> got) {
    unary = got.status();
  });
  callee_.on_open = [](grpc::ServerContext* context, auto*) {
    return RawCallee::AwaitCancelled(context);
  };
  client_->OpenSession(offer_, caller_, events_, kTimeout,
                       [&](absl::StatusOr<ControlClient::Accepted> got) {
                         session = got.status();
                       });
  client_.reset();
  EXPECT_THAT(unary, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(session, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(events_->ended());
}

// What the caller itself gets wrong is told before anybody is asked.
TEST_F(LyingCalleeTest, OwnOfferIsCheckedFirst) {
  offer_.to_callee = Placement{{{PlacementRule::Kind::kName, {}, "\xff", {}}}};
  EXPECT_THAT(Open(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("offer.to_callee.rules[0].name_glob: is not "
                                 "UTF-8")));
  caller_.peer.name.clear();
  offer_ = Offer();
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("caller.peer.name")));
}

TEST(ControlClientTest, RefusesWhatIsNoAddress) {
  EXPECT_THAT(ControlClient::Create("http://x"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ControlClientTest, NobodyThereIsUnavailable) {
  std::string address;
  { address = RawCallee().address(); }
  auto client = *ControlClient::Create(address);
  EXPECT_THAT(Await<Capabilities>([&](Done<Capabilities> done) {
                client->GetCapabilities(kTimeout, std::move(done));
              }),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
  EXPECT_THAT(
      Await<ControlClient::Accepted>([&](Done<ControlClient::Accepted> done) {
        client->OpenSession(Offer(), PeerWith("alice", {}),
                            std::make_shared<HeardEvents>(), kTimeout,
                            std::move(done));
      }),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
