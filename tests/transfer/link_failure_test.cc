// What happens to operations, and to their buffers, when they do not go well.
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "serialization/converter_registry.h"
#include "tests/testing/becomes.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "transfer/link.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;

using absl::StatusCode;

void Overwrite(const at::Tensor& tensor) {
  std::memset(tensor.data_ptr(), 0xee, tensor.nbytes());
}

using LinkFailureTest = LinkTest;

// Many small steps, so that a cancellation comes in between.
TransferRules SmallSteps() {
  TransferRules rules = BasicRules();
  rules.piece_bytes = 256 << 10;
  rules.limits.eager_bytes = 4 << 20;
  return rules;
}

TEST_F(LinkFailureTest, CancelledSendGivesItsBufferBackAndSpoilsNothing) {
  Connect(SmallSteps());
  constexpr int64_t kBytes = 16 << 20;
  for (int round = 0; round < 12; ++round) {
    Outcome<Received> received;
    callee().Receive({}, received.done());
    TensorMessage message = PatternMessage(kBytes, round);
    at::Tensor source = message.tensors[0];
    absl::Notification over;
    absl::Status status;
    uint64_t before = caller().counters().bytes_sent;
    Operation operation = caller().Send(std::move(message), {}, {},
                                        [&](absl::StatusOr<Receipt> receipt) {
                                          status = receipt.status();
                                          // The fence: what is written now
                                          // reaches nobody.
                                          Overwrite(source);
                                          over.Notify();
                                        });
    ASSERT_TRUE(Becomes([&] {
      return caller().counters().bytes_sent >= before + (round << 20) ||
             over.HasBeenNotified();
    }));
    operation.Cancel();
    over.WaitForNotification();
    absl::StatusOr<Received> result = received.Wait();
    if (status.ok()) {
      ASSERT_THAT(result, IsOk());
      EXPECT_TRUE(
          SameBytes(result->message.tensors[0], Pattern(kBytes, round)));
    } else {
      EXPECT_THAT(status, StatusIs(StatusCode::kCancelled));
      // The last word may have crossed the cancellation.
      if (result.ok()) {
        EXPECT_TRUE(
            SameBytes(result->message.tensors[0], Pattern(kBytes, round)));
      } else {
        EXPECT_THAT(result, StatusIs(StatusCode::kCancelled,
                                     HasSubstr("given up by the sender")));
      }
    }
  }
  EXPECT_THAT(Transfer(PatternMessage(kBytes, 1)), IsOk());
}

TEST_F(LinkFailureTest, CancelledReceiveLeavesItsMemoryAlone) {
  Connect(SmallSteps());
  constexpr int64_t kBytes = 16 << 20;
  for (int round = 0; round < 12; ++round) {
    at::Tensor own = at::empty({kBytes}, at::kByte);
    ReceiveOptions options;
    options.into.tensors = {own};
    options.into.names = {"data"};
    absl::Notification over;
    absl::Status status;
    Operation operation =
        callee().Receive(options, [&](absl::StatusOr<Received> received) {
          status = received.status();
          if (!status.ok()) Overwrite(own);
          over.Notify();
        });
    uint64_t before = callee().counters().bytes_received;
    Outcome<Receipt> sent;
    caller().Send(PatternMessage(kBytes, round), {}, {}, sent.done());
    ASSERT_TRUE(Becomes([&] {
      // Something of it has come: the Receive has its message.
      return callee().counters().bytes_received > before + (round << 20) ||
             over.HasBeenNotified();
    }));
    operation.Cancel();
    over.WaitForNotification();
    absl::Status sender = sent.Wait().status();
    EXPECT_EQ(sender.ok(), status.ok()) << sender << " / " << status;
    // Everything that was under way for it is through once more goes through.
    ASSERT_THAT(Transfer(PatternMessage(1 << 20, 3)), IsOk());
    at::Tensor expected = Pattern(kBytes, round);
    if (!status.ok()) {
      EXPECT_THAT(status, StatusIs(StatusCode::kCancelled));
      Overwrite(expected);
    }
    EXPECT_TRUE(SameBytes(own, expected));
  }
}

TEST_F(LinkFailureTest, NeighboursOfACancelledOperationArrive) {
  Connect(SmallSteps());
  constexpr int64_t kBytes = 8 << 20;
  constexpr int kMessages = 8;
  std::vector<Outcome<Received>> received(kMessages);
  std::vector<Outcome<Receipt>> sent(kMessages);
  std::vector<Operation> receives;
  uint64_t before = callee().counters().bytes_received;
  for (int i = 0; i < kMessages; ++i) {
    ReceiveOptions options;
    options.filter.type = 100 + i;
    receives.push_back(callee().Receive(options, received[i].done()));
  }
  for (int i = 0; i < kMessages; ++i) {
    TensorMessage message = PatternMessage(kBytes, i);
    message.type = 100 + i;
    caller().Send(std::move(message), {}, {}, sent[i].done());
  }
  ASSERT_TRUE(Becomes([&] {
    return callee().counters().bytes_received >= before + (12 << 20);
  }));
  receives[3].Cancel();
  for (int i = 0; i < kMessages; ++i) {
    absl::StatusOr<Received> message = received[i].Wait();
    absl::Status status = sent[i].Wait().status();
    EXPECT_EQ(status.ok(), message.ok()) << status;
    if (i == 3) continue;
    ASSERT_THAT(message, IsOk()) << i;
    EXPECT_TRUE(SameBytes(message->message.tensors[0], Pattern(kBytes, i)));
  }
}

TEST_F(LinkFailureTest, DeadlinesEndOperationsOnBothSides) {
  FakeClock& clock = fake_clock_;
  Connect(BasicRules(), &clock);
  SendOptions in_a_second;
  in_a_second.timeout = absl::Seconds(1);
  Outcome<Receipt> small, large;
  caller().Send(PatternMessage(10, 1), {}, in_a_second, small.done());
  caller().Send(PatternMessage(64 << 20, 1), {}, in_a_second, large.done());
  ReceiveOptions options;
  options.timeout = absl::Seconds(1);
  options.filter.type = 99;
  Outcome<Received> received;
  callee().Receive(options, received.done());
  // Time is read in the call, but the operations begin later.
  ASSERT_TRUE(
      Becomes([&] { return callee().counters().bytes_received >= 17; }));
  clock.Advance(absl::Seconds(2));
  EXPECT_THAT(small.Wait(), StatusIs(StatusCode::kDeadlineExceeded,
                                     HasSubstr("send 1 to other")));
  EXPECT_THAT(large.Wait(), StatusIs(StatusCode::kDeadlineExceeded));
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kDeadlineExceeded,
                                        HasSubstr("receive from other")));
  // What was given up is not delivered later. What has come after it says that
  // the receiver knows.
  Outcome<Receipt> sent;
  caller().Send(PatternMessage(10, 2, 77), {}, {}, sent.done());
  ASSERT_TRUE(
      Becomes([&] { return callee().counters().bytes_received >= 2 * 17; }));
  Outcome<Received> next;
  callee().Receive({}, next.done());
  absl::StatusOr<Received> message = next.Wait();
  ASSERT_THAT(message, IsOk());
  EXPECT_EQ(message->message.id, 77);
}

TEST_F(LinkFailureTest, OperationsWaitAndThenPassTheLimit) {
  TransferRules rules = BasicRules();
  rules.limits.operations_in_flight = 2;
  rules.limits.operations_queued = 3;
  Connect(rules);
  std::vector<Outcome<Receipt>> sent(7);
  for (int i = 0; i < 7; ++i) {
    caller().Send(PatternMessage(10, i, i), {}, {}, sent[i].done());
  }
  for (int i = 5; i < 7; ++i) {
    EXPECT_THAT(sent[i].Wait(), StatusIs(StatusCode::kResourceExhausted,
                                         HasSubstr("operations_queued")));
  }
  for (int i = 0; i < 5; ++i) {
    Outcome<Received> received;
    callee().Receive({}, received.done());
    absl::StatusOr<Received> message = received.Wait();
    ASSERT_THAT(message, IsOk());
    EXPECT_EQ(message->message.id, i);
    EXPECT_THAT(sent[i].Wait(), IsOk());
  }
}

TEST_F(LinkFailureTest, BytesThatWaitAreLimited) {
  TransferRules rules = BasicRules();
  rules.limits.bytes_in_flight = 1000;
  rules.limits.bytes_queued = 1500;
  Connect(rules);
  std::vector<Outcome<Receipt>> sent(3);
  for (int i = 0; i < 3; ++i) {
    caller().Send(PatternMessage(1000, i), {}, {}, sent[i].done());
  }
  EXPECT_THAT(sent[2].Wait(), StatusIs(StatusCode::kResourceExhausted,
                                       HasSubstr("bytes_queued")));
  for (int i = 0; i < 2; ++i) {
    Outcome<Received> received;
    callee().Receive({}, received.done());
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_THAT(sent[i].Wait(), IsOk());
  }
}

TEST_F(LinkFailureTest, MessagesThatNobodyWantsAreRefused) {
  TransferRules rules = BasicRules();
  rules.limits.headers_waiting = 2;
  Connect(rules);
  std::vector<Outcome<Receipt>> sent(3);
  for (int i = 0; i < 3; ++i) {
    caller().Send(PatternMessage(10, i), {}, {}, sent[i].done());
  }
  EXPECT_THAT(sent[2].Wait(), StatusIs(StatusCode::kResourceExhausted,
                                       AllOf(HasSubstr("refused"),
                                             HasSubstr("headers_waiting"))));
}

TEST_F(LinkFailureTest, ManifestThatIsTooLongIsNotSent) {
  TransferRules rules = BasicRules();
  rules.limits.manifest_bytes = 200;
  Connect(rules);
  TensorMessage message;
  for (int i = 0; i < 100; ++i) message.tensors.push_back(Pattern(10, i));
  Outcome<Receipt> sent;
  caller().Send(std::move(message), {}, {}, sent.done());
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kResourceExhausted,
                                    HasSubstr("limit manifest_bytes of 200")));
  EXPECT_THAT(Transfer(PatternMessage(10, 1)), IsOk());
}

TEST_F(LinkFailureTest, PeerHearsNothingOfWhatNoPathCarries) {
  EndpointOptions sends, receives;
  sends.executor = Executor::Inline();  // callbacks hold up the loop
  receives.executor = &executor_;
  TransferRules rules = BasicRules();
  PlacementRule to_cuda;
  to_cuda.kind = PlacementRule::Kind::kName;
  to_cuda.name_glob = "data";
  to_cuda.target = {"cuda", 0};
  rules.outgoing.rules = {to_cuda};
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(sends, receives, rules, rules);
  ASSERT_THAT(pair, IsOk());
  pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  Outcome<Receipt> sent;
  Operation never = caller().Receive({}, [&](auto) {
    // The cancellation is in line before the loop has looked at the message.
    caller().Send(PatternMessage(1 << 20, 1), {}, {}, sent.done()).Cancel();
  });
  never.Cancel();
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kFailedPrecondition,
                                    HasSubstr("no path of this session")));
  TensorMessage unnamed = PatternMessage(10, 1);
  unnamed.names.clear();
  EXPECT_THAT(Transfer(std::move(unnamed)), IsOk());
}

TEST_F(LinkFailureTest, MessageOfAnotherPlanIsRefused) {
  EndpointOptions options;
  options.executor = &executor_;
  TransferRules other = BasicRules();
  other.plan_digest = "plan-2";
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(options, options, BasicRules(), other);
  ASSERT_THAT(pair, IsOk());
  pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  Outcome<Receipt> sent;
  caller().Send(PatternMessage(10, 1), {}, {}, sent.done());
  EXPECT_THAT(sent.Wait(),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("refused"), HasSubstr("plan-1"),
                             HasSubstr("plan-2"))));
}

TEST_F(LinkFailureTest, ReceiveThatDoesNotFitTheMessageRefusesIt) {
  Connect(BasicRules());
  for (int64_t nbytes : {100, 5 << 20}) {
    ReceiveOptions options;
    options.into.tensors = {at::empty({nbytes + 1}, at::kByte)};
    options.into.names = {"data"};
    Outcome<Received> received;
    Outcome<Receipt> sent;
    callee().Receive(options, received.done());
    caller().Send(PatternMessage(nbytes, 1), {}, {}, sent.done());
    EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kInvalidArgument));
    EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kInvalidArgument));
  }
}

TEST_F(LinkFailureTest, SidesThatDifferInVersionDoNotConnect) {
  EndpointOptions options;
  options.executor = &executor_;
  TransferRules newer = BasicRules();
  newer.wire_version = 2;
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(options, options, BasicRules(), newer);
  EXPECT_THAT(pair, StatusIs(StatusCode::kFailedPrecondition,
                             AllOf(HasSubstr("version 1"), HasSubstr("2"))));
}

TEST_F(LinkFailureTest, UnknownPathsAreNamed) {
  EndpointOptions options;
  options.executor = &executor_;
  TransferRules rules = BasicRules();
  rules.paths = {"unix/teleport"};
  EXPECT_THAT(MakeInProcessPair(options, options, rules, rules),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("unix/teleport: no such channel")));
}

// Receives next to where it should.
class MisplacingConverter : public DeviceConverter {
 public:
  MisplacingConverter()
      : real_(*ConverterRegistry::Global().Find(c10::kCPU)),
        elsewhere_(Pattern(8 << 20, 1)) {}
  absl::StatusOr<SendBuffer> PrepareToSend(
      const c10::Storage& storage, ByteRange range,
      c10::Stream carrying) const override {
    return real_->PrepareToSend(storage, range, carrying);
  }
  absl::StatusOr<c10::DataPtr> AllocateToReceive(
      uint64_t nbytes, c10::Device device, c10::Stream receiving,
      BufferSource* source) const override {
    return real_->AllocateToReceive(nbytes, device, receiving, source);
  }
  tensorpipe::Buffer CarriedBuffer(std::byte*,
                                   c10::Stream stream) const override {
    return real_->CarriedBuffer(static_cast<std::byte*>(elsewhere_.data_ptr()),
                                stream);
  }
  std::vector<DeviceInfo> Devices() const override { return real_->Devices(); }

 private:
  const DeviceConverter* const real_;
  const at::Tensor elsewhere_;
};

TEST_F(LinkFailureTest, WrongBytesAreDataLossOnBothSides) {
  ConverterRegistry misplacing;
  ASSERT_THAT(
      misplacing.Register(c10::kCPU, std::make_unique<MisplacingConverter>()),
      IsOk());
  EndpointOptions sends, receives;
  sends.executor = receives.executor = &executor_;
  receives.converters = &misplacing;
  TransferRules rules = BasicRules();
  rules.limits.eager_bytes = 0;  // into the regions
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(sends, receives, rules, rules);
  ASSERT_THAT(pair, IsOk());
  pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  Outcome<Received> received;
  Outcome<Receipt> sent;
  callee().Receive({}, received.done());
  // A pattern that freed memory does not happen to hold.
  caller().Send(PatternMessage(4 << 20, 201), {}, {}, sent.done());
  EXPECT_THAT(received.Wait(),
              StatusIs(StatusCode::kDataLoss, HasSubstr("data")));
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kDataLoss, HasSubstr("data")));
  pair_.reset();
}

// tensorpipe's view of memory of a device that it does not know.
struct OddBuffer {
  tensorpipe::Device getDevice() const { return {"odd", 0}; }
};

class OddConverter : public MisplacingConverter {
 public:
  tensorpipe::Buffer CarriedBuffer(std::byte*, c10::Stream) const override {
    return OddBuffer();
  }
};

TEST_F(LinkFailureTest, AConverterOfOtherBuffersThanItSaysEndsItsLinkOnly) {
  ConverterRegistry odd;
  ASSERT_THAT(odd.Register(c10::kCPU, std::make_unique<OddConverter>()),
              IsOk());
  EndpointOptions sends, receives;
  sends.executor = receives.executor = &executor_;
  sends.converters = &odd;
  absl::StatusOr<InProcessPair> pair =
      MakeInProcessPair(sends, receives, BasicRules(), BasicRules());
  ASSERT_THAT(pair, IsOk());
  pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  Outcome<Received> received;
  Outcome<Receipt> sent;
  callee().Receive({}, received.done());
  caller().Send(PatternMessage(1 << 20, 1), {}, {}, sent.done());
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kInternal, HasSubstr("odd")));
  EXPECT_FALSE(received.Wait().ok());
}

TEST_F(LinkFailureTest, CloseEndsAThousandPendingOperationsOnceEach) {
  Connect(BasicRules());
  constexpr int kOperations = 1000;
  std::atomic<int> ended = 0, wrong = 0;
  StatusOutcome closed;
  auto count = [&](const absl::Status& status) {
    ++ended;
    if (status.code() != StatusCode::kAborted) ++wrong;
  };
  for (int i = 0; i < kOperations; ++i) {
    ReceiveOptions of_no_message;
    of_no_message.filter.type = 1234;
    caller().Receive(of_no_message,
                     [&](auto received) { count(received.status()); });
    caller().Send(PatternMessage(i % 10 == 0 ? 1 << 20 : 50, i), {}, {},
                  [&](auto sent) { count(sent.status()); });
  }
  caller().Close(absl::AbortedError("enough"), closed.done());
  EXPECT_THAT(closed.Wait(), IsOk());
  ASSERT_TRUE(Becomes([&] { return ended == 2 * kOperations; }));
  EXPECT_EQ(wrong, 0);
  // Nothing begins any more, and closing again is no error.
  Outcome<Receipt> late;
  caller().Send(PatternMessage(1, 1), {}, {}, late.done());
  EXPECT_THAT(late.Wait(), StatusIs(StatusCode::kFailedPrecondition,
                                    HasSubstr("ABORTED: enough")));
  Outcome<Received> late_too;
  caller().Receive({}, late_too.done());
  EXPECT_THAT(late_too.Wait(), StatusIs(StatusCode::kFailedPrecondition,
                                        HasSubstr("ABORTED: enough")));
  StatusOutcome again;
  caller().Close(absl::OkStatus(), again.done());
  EXPECT_THAT(again.Wait(), IsOk());
}

TEST_F(LinkFailureTest, PeerThatClosesIsUnavailable) {
  EndpointOptions options;
  options.executor = &executor_;
  absl::StatusOr<std::unique_ptr<Endpoint>> a = Endpoint::Create(options);
  absl::StatusOr<std::unique_ptr<Endpoint>> b = Endpoint::Create(options);
  ASSERT_THAT(a, IsOk());
  ASSERT_THAT(b, IsOk());
  StatusOutcome up, down;
  absl::StatusOr<Endpoint::Expected> expected =
      (*a)->Expect(BasicRules(), up.done(), down.done());
  ASSERT_THAT(expected, IsOk());
  Outcome<std::shared_ptr<Link>> dialed;
  (*b)->Dial(expected->addresses, expected->key, BasicRules(),
             absl::Seconds(10), nullptr, dialed.done());
  absl::StatusOr<std::shared_ptr<Link>> link = dialed.Wait();
  ASSERT_THAT(link, IsOk());
  EXPECT_THAT(up.Wait(), IsOk());
  Outcome<Receipt> sent;
  expected->link->Send(PatternMessage(1 << 20, 1), {}, {}, sent.done());
  link->reset();
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(down.Wait(), StatusIs(StatusCode::kUnavailable));
  Outcome<Receipt> late;
  expected->link->Send(PatternMessage(1, 1), {}, {}, late.done());
  EXPECT_THAT(late.Wait(), StatusIs(StatusCode::kFailedPrecondition,
                                    HasSubstr("ended with: UNAVAILABLE")));
}

class DialTest : public LinkTest {
 protected:
  void SetUp() override {
    EndpointOptions options;
    options.executor = &executor_;
    absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
        Endpoint::Create(options);
    ASSERT_THAT(endpoint, IsOk());
    endpoint_ = *std::move(endpoint);
  }

  absl::StatusOr<std::shared_ptr<Link>> Dial(
      std::vector<std::string> addresses, const std::string& key,
      const TransferRules& rules = BasicRules()) {
    Outcome<std::shared_ptr<Link>> dialed;
    endpoint_->Dial(std::move(addresses), key, rules, absl::Seconds(10),
                    nullptr, dialed.done());
    return dialed.Wait();
  }

  absl::StatusOr<Endpoint::Expected> Expect(const TransferRules& rules) {
    return endpoint_->Expect(
        rules, [](absl::Status) {}, nullptr);
  }

  std::unique_ptr<Endpoint> endpoint_;
  const std::string key_ = std::string(16, 'x');
};

TEST_F(DialTest, NobodyThereIsUnavailable) {
  EXPECT_THAT(Dial({"unix://@tensorferry-nobody"}, key_),
              StatusIs(StatusCode::kUnavailable));
  TransferRules tcp = BasicRules();
  tcp.paths = {"tcp/basic"};
  EXPECT_THAT(Dial({"tcp://127.0.0.1:1"}, key_, tcp),
              StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(Dial({"tcp://192.0.2.1:80"}, key_, tcp),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("192.0.2.1")));
  EXPECT_THAT(Dial({"nonsense"}, key_), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(DialTest, AllAddressesThatCannotBeReachedAreNamed) {
  TransferRules rules = BasicRules();
  rules.paths = {"unix/basic", "tcp/basic"};
  EXPECT_THAT(
      Dial({"unix://@tensorferry-nobody", "tcp://127.0.0.1:1"}, key_, rules),
      StatusIs(StatusCode::kUnavailable,
               AllOf(HasSubstr("unix: "), HasSubstr("tcp: "))));
}

TEST_F(DialTest, WrongKeyIsRefusedAndDoesNoHarm) {
  absl::StatusOr<Endpoint::Expected> expected = Expect(BasicRules());
  ASSERT_THAT(expected, IsOk());
  EXPECT_THAT(Dial(expected->addresses, key_),
              StatusIs(StatusCode::kUnauthenticated));
  EXPECT_THAT(Dial(expected->addresses, expected->key), IsOk());
}

TEST_F(DialTest, AddressThatCannotBeReachedLeadsToTheNextAndIsInTheReceipts) {
  TransferRules rules = BasicRules();
  rules.paths = {"unix/local", "unix/basic", "tcp/basic"};
  absl::StatusOr<Endpoint::Expected> expected = Expect(rules);
  ASSERT_THAT(expected, IsOk());
  ASSERT_EQ(expected->addresses.size(), 2u);
  expected->addresses[0] = "unix://@tensorferry-nobody";
  absl::StatusOr<std::shared_ptr<Link>> link =
      Dial(expected->addresses, expected->key, rules);
  ASSERT_THAT(link, IsOk());
  Outcome<Received> received;
  Outcome<Receipt> sent;
  expected->link->Receive({}, received.done());
  (*link)->Send(PatternMessage(3 << 20, 1), {}, {}, sent.done());
  absl::StatusOr<Receipt> sender = sent.Wait();
  absl::StatusOr<Received> receiver = received.Wait();
  ASSERT_THAT(sender, IsOk());
  ASSERT_THAT(receiver, IsOk());
  for (const Receipt& receipt : {*sender, receiver->receipt}) {
    ASSERT_EQ(receipt.paths.size(), 2u);
    EXPECT_EQ(receipt.paths[0].path, "unix");
    EXPECT_THAT(receipt.paths[0].status, StatusIs(StatusCode::kUnavailable));
    EXPECT_EQ(receipt.paths[1].path, "tcp/basic");
    EXPECT_THAT(receipt.paths[1].status, IsOk());
  }
}

TEST_F(LinkFailureTest, NobodyWhoComesInTimeIsADeadline) {
  FakeClock& clock = fake_clock_;
  EndpointOptions options;
  options.executor = &executor_;
  options.clock = &clock;
  absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
      Endpoint::Create(options);
  ASSERT_THAT(endpoint, IsOk());
  StatusOutcome up;
  absl::StatusOr<Endpoint::Expected> expected =
      (*endpoint)->Expect(BasicRules(), up.done(), nullptr);
  ASSERT_THAT(expected, IsOk());
  Outcome<Receipt> sent;  // waits for the lanes
  expected->link->Send(PatternMessage(10, 1), {}, {}, sent.done());
  ASSERT_TRUE(PassTimeUntil(up, clock));
  EXPECT_THAT(up.Wait(), StatusIs(StatusCode::kDeadlineExceeded));
  EXPECT_FALSE(sent.Wait().ok());
}

TEST_F(LinkFailureTest, LinkMayBeDestroyedInItsOwnCallback) {
  Connect(BasicRules());
  Outcome<Received> received;
  callee().Receive({}, received.done());
  absl::Notification destroyed;
  caller().Send(PatternMessage(1 << 20, 1), {}, {}, [&](auto) {
    pair_->caller = nullptr;
    destroyed.Notify();
  });
  destroyed.WaitForNotification();
  EXPECT_THAT(received.Wait(), IsOk());
}

TEST_F(LinkFailureTest, EndpointTakesAllPendingOperationsWithIt) {
  Connect(BasicRules());
  std::atomic<int> ended = 0;
  for (int i = 0; i < 50; ++i) {
    caller().Receive({}, [&](auto) { ++ended; });
    callee().Send(PatternMessage(2 << 20, i), {}, {}, [&](auto) { ++ended; });
  }
  pair_.reset();
  ASSERT_TRUE(Becomes([&] { return ended == 100; }));
}

}  // namespace
}  // namespace tensorferry
