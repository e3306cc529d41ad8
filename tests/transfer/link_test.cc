#include "transfer/link.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "channel/local_channel.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(LinkTest, SmallMessageGoesInline) {
  Connect(BasicRules());
  absl::StatusOr<Received> received = Transfer(PatternMessage(1000, 3, 42));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(received->message.type, 7u);
  EXPECT_EQ(received->message.id, 42);
  EXPECT_EQ(received->message.payload, "payload");
  EXPECT_THAT(received->message.names, ElementsAre("data"));
  EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(1000, 3)));
  ASSERT_EQ(received->receipt.paths.size(), 1u);
  EXPECT_EQ(received->receipt.paths[0].path, "inline");
  EXPECT_EQ(received->receipt.digest.size(), 32u);
}

TEST_F(LinkTest, QuickCallbacksComeThoughBothThreadsForCallbacksAreBusy) {
  Connect(BasicRules());
  absl::Notification go;
  absl::BlockingCounter busy(2), over(2);
  const auto hold = [&](const auto&) {
    busy.DecrementCount();
    go.WaitForNotification();
    over.DecrementCount();
  };
  callee().Receive({}, hold);
  caller().Send(PatternMessage(1000, 3), {}, {}, hold);
  busy.Wait();
  Outcome<Received> received;
  Outcome<Receipt> sent;
  callee().Receive({.done_is_quick = true}, received.done());
  caller().Send(PatternMessage(1000, 5), {}, {.done_is_quick = true},
                sent.done());
  EXPECT_TRUE(sent.ComesWithin(std::chrono::seconds(30)));
  EXPECT_TRUE(received.ComesWithin(std::chrono::seconds(30)));
  go.Notify();
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(received.Wait(), IsOk());
  over.Wait();
}

// They would be let go of on the loop.
TEST_F(LinkTest, ASmallMessageHoldsNoTensorOnceSendReturns) {
  Connect(BasicRules());
  at::Tensor tensor = Pattern(1000, 3);
  TensorMessage message = {.tensors = {tensor}};
  Outcome<Receipt> sent;
  caller().Send(std::move(message), {}, {}, sent.done());
  EXPECT_EQ(tensor.use_count(), 1u);
  Outcome<Received> received;
  callee().Receive({}, received.done());
  EXPECT_THAT(sent.Wait(), IsOk());
  ASSERT_TRUE(SameBytes(received.Wait()->message.tensors[0], tensor));
}

TEST_F(LinkTest, LargeMessageGoesInBodies) {
  Connect(BasicRules());
  int64_t nbytes = (40 << 20) + 17;  // more than one body
  absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, 5));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(nbytes, 5)));
  ASSERT_EQ(received->receipt.paths.size(), 1u);
  EXPECT_EQ(received->receipt.paths[0].path, "unix/basic");
  EXPECT_EQ(received->receipt.paths[0].bytes, nbytes + 7u);
  EXPECT_TRUE(received->receipt.paths[0].status.ok());
}

TEST_F(LinkTest, ZeroBytesArrive) {
  Connect(BasicRules());
  TensorMessage message;
  message.tensors = {at::empty({0, 3}, at::kFloat)};
  absl::StatusOr<Received> received = Transfer(std::move(message));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(received->message.tensors[0].sizes(), (std::vector<int64_t>{0, 3}));
  absl::StatusOr<Received> nothing = Transfer(TensorMessage());
  ASSERT_TRUE(nothing.ok()) << nothing.status();
}

TEST_F(LinkTest, BothDirectionsAtOnce) {
  Connect(BasicRules());
  constexpr int kMessages = 20;
  std::vector<Outcome<Received>> received(2 * kMessages);
  std::vector<Outcome<Receipt>> sent(2 * kMessages);
  for (int i = 0; i < kMessages; ++i) {
    int64_t nbytes = i % 3 == 0 ? 3 << 20 : 100 + i;
    callee().Receive({}, received[2 * i].done());
    caller().Receive({}, received[2 * i + 1].done());
    caller().Send(PatternMessage(nbytes, i, i), {}, {}, sent[2 * i].done());
    callee().Send(PatternMessage(nbytes, 100 + i, i), {}, {},
                  sent[2 * i + 1].done());
  }
  for (auto& outcome : sent) EXPECT_THAT(outcome.Wait(), IsOk());
  for (int i = 0; i < 2 * kMessages; ++i) {
    absl::StatusOr<Received> message = received[i].Wait();
    ASSERT_TRUE(message.ok()) << message.status();
    uint8_t seed = message->message.id + (i % 2 == 0 ? 0 : 100);
    const at::Tensor& tensor = message->message.tensors[0];
    EXPECT_TRUE(SameBytes(tensor, Pattern(tensor.numel(), seed)));
  }
}

TEST_F(LinkTest, ThousandsOfSmallMessagesArriveInOrder) {
  TransferRules rules = BasicRules();
  Connect(rules);
  constexpr int kMessages = 5000;
  std::vector<Outcome<Received>> received(kMessages);
  std::vector<Outcome<Receipt>> sent(kMessages);
  for (int i = 0; i < kMessages; ++i) callee().Receive({}, received[i].done());
  for (int i = 0; i < kMessages; ++i) {
    caller().Send(PatternMessage(16, i, i), {}, {}, sent[i].done());
  }
  for (int i = 0; i < kMessages; ++i) {
    absl::StatusOr<Received> message = received[i].Wait();
    ASSERT_TRUE(message.ok()) << message.status();
    ASSERT_EQ(message->message.id, i);
  }
  for (auto& outcome : sent) EXPECT_THAT(outcome.Wait(), IsOk());
  EXPECT_EQ(caller().counters().messages_sent, kMessages);
  EXPECT_EQ(callee().counters().messages_received, kMessages);
}

TEST_F(LinkTest, TenThousandTensorsInOneMessage) {
  Connect(BasicRules());
  TensorMessage message;
  for (int i = 0; i < 10000; ++i) message.tensors.push_back(Pattern(256, i));
  absl::StatusOr<Received> received = Transfer(message);
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_EQ(received->message.tensors.size(), 10000u);
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(SameBytes(received->message.tensors[i], message.tensors[i]));
  }
}

TEST_F(LinkTest, ReceivesIntoTheCallersTensors) {
  Connect(BasicRules());
  for (int64_t nbytes : {100, 5 << 20}) {
    at::Tensor own = at::empty({nbytes}, at::kByte);
    ReceiveOptions options;
    options.into.tensors = {own};
    options.into.names = {"data"};
    absl::StatusOr<Received> received =
        Transfer(PatternMessage(nbytes, 9), options);
    ASSERT_TRUE(received.ok()) << received.status();
    EXPECT_EQ(received->message.tensors[0].data_ptr(), own.data_ptr());
    EXPECT_TRUE(SameBytes(own, Pattern(nbytes, 9)));
  }
}

TEST_F(LinkTest, MessageThatComesBeforeItsReceiveIsTakenAside) {
  TransferRules rules = BasicRules();
  rules.limits.eager_bytes = 4 << 20;
  Connect(rules);
  int64_t nbytes = 1 << 20;  // fits into the eager window
  Outcome<Receipt> sent;
  caller().Send(PatternMessage(nbytes, 1), {}, {}, sent.done());
  // What is behind it on lane 0 and on the lanes says that it has arrived.
  Outcome<Received> reply;
  ReceiveOptions of_type_8;
  of_type_8.filter.type = 8;
  callee().Receive(of_type_8, reply.done());
  TensorMessage second = PatternMessage(nbytes, 2);
  second.type = 8;
  Outcome<Receipt> second_sent;
  caller().Send(std::move(second), {}, {}, second_sent.done());
  ASSERT_THAT(second_sent.Wait(), IsOk());
  at::Tensor own = at::empty({nbytes}, at::kByte);
  ReceiveOptions into;
  into.into.tensors = {own};
  into.into.names = {"data"};
  Outcome<Received> received;
  callee().Receive(into, received.done());
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_TRUE(SameBytes(own, Pattern(nbytes, 1)));
}

TEST_F(LinkTest, WithoutAWindowBodiesWaitForTheirGrant) {
  TransferRules rules = BasicRules();
  rules.limits.eager_bytes = 0;
  Connect(rules);
  int64_t nbytes = 3 << 20;
  absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, 8));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(nbytes, 8)));
}

TEST_F(LinkTest, RepliesGoToTheirCall) {
  Connect(BasicRules());
  ReceiveOptions reply_to_5;
  reply_to_5.filter.reply_to = 5;
  Outcome<Received> reply, request;
  caller().Receive(reply_to_5, reply.done());
  callee().Receive({}, request.done());
  Envelope envelope;
  envelope.kind = Envelope::Kind::kRequest;
  envelope.call = 5;
  Outcome<Receipt> sent, replied;
  caller().Send(PatternMessage(10, 1), envelope, {}, sent.done());
  absl::StatusOr<Received> got = request.Wait();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->envelope.kind, Envelope::Kind::kRequest);
  EXPECT_EQ(got->envelope.call, 5u);
  envelope.kind = Envelope::Kind::kReply;
  envelope.reply_error = absl::NotFoundError("no such thing");
  callee().Send(TensorMessage(), envelope, {}, replied.done());
  got = reply.Wait();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_THAT(got->envelope.reply_error,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no such")));
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(replied.Wait(), IsOk());
}

TEST_F(LinkTest, DigestsCanBeOff) {
  TransferRules rules = BasicRules();
  rules.digests = false;
  Connect(rules);
  for (int64_t nbytes : {10, 2 << 20}) {
    absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, 8));
    ASSERT_TRUE(received.ok()) << received.status();
    EXPECT_EQ(received->receipt.digest, "");
  }
}

TEST_F(LinkTest, LocalChannelReadsFromTheSendersMemory) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  TransferRules rules = BasicRules();
  rules.paths = {"unix/local", "unix/basic"};
  Connect(rules, Clock::Real(), /*pool_bytes=*/0);
  int64_t nbytes = 3 << 20;
  absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, 8));
  ASSERT_TRUE(received.ok()) << received.status();
  ASSERT_EQ(received->receipt.paths.size(), 1u);
  EXPECT_EQ(received->receipt.paths[0].path, "unix/local/vm");
  EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(nbytes, 8)));
}

TEST_F(LinkTest, EveryWireCarriesSmallAndLargeMessages) {
  for (const char* path : {"unix/basic", "tcp/basic", "tls/basic"}) {
    TransferRules rules = BasicRules();
    rules.paths = {path};
    Connect(rules);
    for (int64_t nbytes : {100, 40 << 20}) {
      absl::StatusOr<Received> received = Transfer(PatternMessage(nbytes, 8));
      ASSERT_TRUE(received.ok()) << received.status();
      EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(nbytes, 8)));
      ASSERT_EQ(received->receipt.paths.size(), 1u);
      EXPECT_EQ(received->receipt.paths[0].path,
                nbytes == 100 ? "inline" : path);
    }
  }
}

TEST_F(LinkTest, DrainWaitsForWhatIsUnderWayAndRefusesMore) {
  Connect(BasicRules());
  Outcome<Receipt> sent;
  StatusOutcome drained;
  caller().Send(PatternMessage(3 << 20, 8), {}, {}, sent.done());
  caller().Drain(drained.done());
  Outcome<Receipt> refused;
  caller().Send(PatternMessage(3, 8), {}, {}, refused.done());
  EXPECT_THAT(refused.Wait(), StatusIs(absl::StatusCode::kFailedPrecondition));
  Outcome<Received> received;
  callee().Receive({}, received.done());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(drained.Wait(), IsOk());
}

// Its executor may be gone by then.
TEST_F(LinkTest, AfterItsEndALinkTellsWithinTheCall) {
  Connect(BasicRules());
  StatusOutcome closed;
  caller().Close(absl::AbortedError("a reason"), closed.done());
  EXPECT_THAT(closed.Wait(), IsOk());
  std::vector<std::thread::id> told;
  const auto tell = [&](const auto&) {
    told.push_back(std::this_thread::get_id());
  };
  caller().Send(PatternMessage(3, 8), {}, {}, tell);
  caller().Receive({}, tell);
  caller().Drain(tell);
  caller().Close(absl::OkStatus(), tell);
  EXPECT_EQ(told, std::vector<std::thread::id>(4, std::this_thread::get_id()));
}

TEST_F(LinkTest, DrainOfALinkThatHasEndedSaysWhy) {
  Connect(BasicRules());
  StatusOutcome closed, drained;
  caller().Close(absl::AbortedError("a reason"), closed.done());
  EXPECT_THAT(closed.Wait(), IsOk());
  caller().Drain(drained.done());
  EXPECT_THAT(drained.Wait(), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(LinkTest, DrainedReceiverIsThroughOnceItsLastWordIsWritten) {
  Connect(BasicRules(), &fake_clock_);
  Outcome<Receipt> sent;
  caller().Send(PatternMessage(100, 8), {}, {}, sent.done());
  ASSERT_TRUE(Becomes([&] { return callee().counters().bytes_received > 0; }));
  StatusOutcome drained;
  callee().Drain(drained.done());
  Outcome<Received> received;
  callee().Receive({}, received.done());
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  ASSERT_TRUE(drained.ComesWithin(std::chrono::seconds(60)));
  EXPECT_THAT(drained.Wait(), IsOk());
}

}  // namespace
}  // namespace tensorferry
