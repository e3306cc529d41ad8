// Large tensors are copied by the sender into the receiver's pool.
#include <ATen/ops/zeros.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "channel/local_channel.h"
#include "examples/toy_device/toy_device.h"
#include "tests/testing/becomes.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/open_descriptors.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "transport/descriptors.h"
#include "transport/hub.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::OpenDescriptors;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

TransferRules Rules(const std::string& path = "unix/local") {
  TransferRules rules = BasicRules();
  rules.paths = {path};
  return rules;
}

// Without a payload, which would be a small buffer of its own.
TensorMessage Message(int64_t nbytes, uint8_t seed) {
  TensorMessage message = PatternMessage(nbytes, seed);
  message.payload.clear();
  return message;
}

class PoolPathTest : public LinkTest {
 protected:
  // A message of `nbytes` comes whole, over `path` only. Returns its tensor.
  at::Tensor ExpectOver(const std::string& path, int64_t nbytes, uint8_t seed,
                        at::Tensor into = {}) {
    ReceiveOptions options;
    if (into.defined()) {
      options.into.tensors = {into};
      options.into.names = {"data"};
    }
    absl::StatusOr<Received> received =
        Transfer(Message(nbytes, seed), std::move(options));
    EXPECT_THAT(received, IsOk());
    if (!received.ok()) return {};
    const at::Tensor tensor = received->message.tensors[0];
    EXPECT_TRUE(SameBytes(tensor, Pattern(nbytes, seed)));
    EXPECT_EQ(received->receipt.paths.size(), 1u);
    EXPECT_EQ(received->receipt.paths.at(0).path, path);
    EXPECT_THAT(received->receipt.paths.at(0).status, IsOk());
    return tensor;
  }
};

TEST_F(PoolPathTest, LargeTensorsGoStraightIntoThePool) {
  Connect(Rules());
  for (uint8_t seed = 0; seed < 4; ++seed) {
    ExpectOver("unix/local/pool", 80 * kMiB, seed);
  }
  Outcome<Received> received;
  Outcome<Receipt> sent;
  caller().Receive({}, received.done());
  callee().Send(Message(3 * kMiB, 9), {}, {}, sent.done());
  absl::StatusOr<Receipt> receipt = sent.Wait();
  ASSERT_THAT(receipt, IsOk());
  EXPECT_EQ(receipt->paths[0].path, "unix/local/pool");
  EXPECT_THAT(received.Wait(), IsOk());
}

// From the second message on; the receiver, which digests what it has, would
// refuse any other.
TEST_F(PoolPathTest, DigestsThatAreComputedWhileItIsCopiedAreTheReceivers) {
  Connect(Rules());
  for (const int64_t nbytes :
       {kMiB / 4, kMiB - 1, kMiB, kMiB + 1, 8 * kMiB, 20 * kMiB + 7}) {
    std::vector<std::string> digests;
    for (int i = 0; i < 2; ++i) {
      TensorMessage message = Message(nbytes, 1);
      message.tensors.push_back(Pattern(3 * kMiB, 2));
      message.tensors.push_back(Pattern(10, 3));  // is read
      message.names = {"a", "b", "c"};
      absl::StatusOr<Received> received = Transfer(std::move(message));
      ASSERT_THAT(received, IsOk()) << nbytes;
      digests.push_back(received->receipt.digest);
    }
    EXPECT_EQ(digests[0], digests[1]) << nbytes;
  }
}

// It crosses as memory of the host, in part to the pool, and has no digest.
TEST_F(PoolPathTest, WhatComesFromADeviceHasNoDigestUnasked) {
  TransferRules rules = Rules();
  rules.outgoing.rules = {*ParsePlacementRule("privateuseone:0=cpu")};
  rules.incoming = rules.outgoing;
  rules.send_streams = {c10::Stream(c10::Stream::DEFAULT, toy::kDevice)};
  Connect(rules);
  for (int i = 0; i < 2; ++i) {
    const at::Tensor host = Pattern(8 * kMiB + kMiB / 10, 1);
    absl::StatusOr<Received> received =
        Transfer({.tensors = {toy::ToDevice(host)}});
    ASSERT_THAT(received, IsOk());
    EXPECT_TRUE(SameBytes(received->message.tensors[0], host));
  }
}

// None of which is told from another by where its bytes lie.
TEST_F(PoolPathTest, OneTensorMayGoInSeveralMessagesAtATime) {
  Connect(Rules());
  ExpectOver("unix/local/pool", 3 * kMiB, 1);
  const TensorMessage message = Message(20 * kMiB, 2);
  std::vector<Outcome<Received>> received(4);
  std::vector<Outcome<Receipt>> sent(4);
  for (int i = 0; i < 4; ++i) {
    callee().Receive({}, received[i].done());
    caller().Send(message, {}, {}, sent[i].done());
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(sent[i].Wait(), IsOk());
    EXPECT_THAT(received[i].Wait(), IsOk());
  }
}

TEST_F(PoolPathTest, ThoseThatFillNoWholePagesGoThereToo) {
  Connect(Rules());
  ExpectOver("unix/local/pool", 3 * kMiB + 5, 1);
}

TEST_F(PoolPathTest, IntoTheUsersOwnTensorsTheyAreRead) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules());
  const at::Tensor into = at::zeros({3 * kMiB}, at::kByte);
  ExpectOver("unix/local/vm", 3 * kMiB, 1, into);
}

// The receiver's, with the sender's own: both compare them.
TEST_F(PoolPathTest, DigestsThatAreComputedWhileItIsReadAreTheSenders) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules());
  for (const int64_t nbytes : {kMiB - 1, kMiB, 8 * kMiB + 7, 20 * kMiB}) {
    const at::Tensor into = at::zeros({nbytes}, at::kByte);
    for (uint8_t seed = 0; seed < 3; ++seed) {
      ExpectOver("unix/local/vm", nbytes, seed, into);
    }
  }
}

TEST_F(PoolPathTest, IntoTensorsThatCameThatWayTheyGoThatWay) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules());
  const at::Tensor came = ExpectOver("unix/local/pool", 3 * kMiB, 1);
  ExpectOver("unix/local/pool", 3 * kMiB, 2, came);
  // But for a part that shares a page with another.
  ExpectOver("unix/local/vm", 2 * kMiB, 3, came.narrow(0, 1, 2 * kMiB));
  EXPECT_TRUE(SameBytes(came.narrow(0, 0, 1), Pattern(1, 2)));
}

TEST_F(PoolPathTest, WithoutAPoolTheyAreRead) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules(), Clock::Real(), /*pool_bytes=*/0);
  ExpectOver("unix/local/vm", 3 * kMiB, 1);
}

// Whoever has the pool could change them after that.
TEST_F(PoolPathTest, IndicesThatAreCheckedAreRead) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules());
  TensorMessage message;
  message.tensors = {Pattern(3 * kMiB, 1).to_sparse()};
  absl::StatusOr<Received> received = Transfer(std::move(message));
  ASSERT_THAT(received, IsOk());
  ASSERT_EQ(received->receipt.paths.size(), 1u);
  EXPECT_EQ(received->receipt.paths[0].path, "unix/local/vm");
}

TEST_F(PoolPathTest, SmallerOnesAreRead) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules());
  ExpectOver("unix/local/vm", kMiB / 5, 1);
}

TEST_F(PoolPathTest, WithoutRoomInThePoolTheyAreRead) {
  if (!WhyUnreadable().empty()) GTEST_SKIP() << WhyUnreadable();
  Connect(Rules(), Clock::Real(), /*pool_bytes=*/2 * kMiB);
  absl::StatusOr<Received> received = Transfer(Message(3 * kMiB, 1));
  ASSERT_THAT(received, IsOk());
  EXPECT_TRUE(SameBytes(received->message.tensors[0], Pattern(3 * kMiB, 1)));
  const std::vector<PathUse>& paths = received->receipt.paths;
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_EQ(paths[0].path, "pool");
  EXPECT_EQ(paths[0].bytes, 0u);
  EXPECT_THAT(paths[0].status, StatusIs(absl::StatusCode::kResourceExhausted,
                                        HasSubstr("pool_bytes")));
  EXPECT_EQ(paths[1].path, "unix/local/vm");
}

TEST_F(PoolPathTest, OtherPathsAreAsBefore) {
  for (const char* path : {"unix/basic", "tcp/basic"}) {
    Connect(Rules(path));
    ExpectOver(path, 3 * kMiB, 1);
  }
}

TEST_F(PoolPathTest, WhatIsCancelledInTheMiddleLeavesNothingBehind) {
  TransferRules rules = Rules();
  rules.piece_bytes = 8 * kMiB;
  rules.limits.eager_bytes = 0;
  Connect(rules);
  ExpectOver("unix/local/pool", 3 * kMiB, 1);
  for (int i = 0; i < 3; ++i) {
    const uint64_t before = callee().counters().bytes_received;
    Outcome<Received> received;
    Outcome<Receipt> sent;
    callee().Receive({}, received.done());
    Operation operation =
        caller().Send(Message(256 * kMiB, 1), {}, {}, sent.done());
    ASSERT_TRUE(
        Becomes([&] { return callee().counters().bytes_received != before; }));
    operation.Cancel();
    // Or it was through just before.
    sent.Wait().status().IgnoreError();
    received.Wait().status().IgnoreError();
    absl::StatusOr<Received> next = Transfer(Message(3 * kMiB, 7));
    ASSERT_THAT(next, IsOk());
    EXPECT_TRUE(SameBytes(next->message.tensors[0], Pattern(3 * kMiB, 7)));
  }
}

TEST_F(PoolPathTest, DescriptorsAreGoneWithTheEndpoints) {
  Connect(Rules());
  ExpectOver("unix/local/pool", 3 * kMiB, 1);
  pair_.reset();
  const int before = OpenDescriptors();
  for (uint8_t i = 0; i < 3; ++i) {
    Connect(Rules());
    ExpectOver("unix/local/pool", 40 * kMiB, i);
    pair_.reset();
  }
  EXPECT_TRUE(Becomes([&] { return OpenDescriptors() <= before; }));
}

// The sender's channel is made as a test wants it.
class OwnChannelTest : public PoolPathTest {
 protected:
  ~OwnChannelTest() override { pair_.reset(); }

  // `change`: of what the channel is given elsewhere. Once.
  void Connect(
      TransferRules rules,
      std::function<void(const ChannelEnvironment&, LocalChannelOptions&)>
          change) {
    ChannelBackend backend;
    backend.name = "local";
    backend.only_on_unix = true;
    backend.make =
        [change = std::move(change)](const ChannelEnvironment& environment) {
          LocalChannelOptions options;
          options.copier = environment.copier;
          options.loop = environment.loop;
          options.descriptors = {.carried_by = CarriesDescriptors,
                                 .write = WriteWithDescriptor,
                                 .take = TakeDescriptor};
          change(environment, options);
          return MakeLocalChannel(std::move(options));
        };
    ASSERT_THAT(registry_.Register(std::move(backend)), IsOk());
    EndpointOptions sends, receives;
    sends.executor = receives.executor = &executor_;
    sends.backends = &registry_;
    absl::StatusOr<InProcessPair> pair =
        MakeInProcessPair(sends, receives, rules, rules);
    ASSERT_THAT(pair, IsOk());
    pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  }

 private:
  BackendRegistry registry_;
};

// Its copies begin when the test says so.
class HeldSenderTest : public OwnChannelTest {
 protected:
  HeldSenderTest() {
    Connect(Rules(), [this](const ChannelEnvironment& environment,
                            LocalChannelOptions& options) {
      options.copier = &copier_;
      options.on_copy = [this, tell = environment.on_copy](bool begun) {
        if (begun) copying_ = true;
        tell(begun);
      };
    });
  }
  ~HeldSenderTest() override { pair_.reset(); }  // before the copier

  // Up to the first piece, which the peer has asked for.
  bool AwaitCopy() {
    while (copier_.AwaitOne() && !copying_) copier_.RunOne();
    return copying_;
  }

  testing::HeldExecutor copier_;
  std::atomic<bool> copying_ = false;
};

TEST_F(HeldSenderTest, WhatIsCancelledWhileItIsWantedIsCancelled) {
  Outcome<Received> received;
  Outcome<Receipt> sent;
  callee().Receive({}, received.done());
  Operation operation =
      caller().Send(Message(8 * kMiB, 1), {}, {}, sent.done());
  ASSERT_TRUE(AwaitCopy());
  operation.Cancel();
  EXPECT_THAT(sent.Wait(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(received.Wait().ok());
}

// Takes what it is told as if it were its own, and puts the bytes elsewhere.
class LyingSenderTest : public OwnChannelTest {
 protected:
  void Connect(bool digests) {
    TransferRules rules = Rules();
    rules.digests = digests;
    OwnChannelTest::Connect(
        rules, [](const ChannelEnvironment&, LocalChannelOptions& options) {
          options.descriptors.take = TakeAnother;
        });
  }

  // Memory as large as the peer's, and sealed as that is.
  static std::optional<UniqueFd> TakeAnother(
      const tensorpipe::transport::Connection& connection) {
    const std::optional<UniqueFd> peers = TakeDescriptor(connection);
    struct stat file = {};
    if (!peers || fstat(peers->get(), &file) != 0) return std::nullopt;
    UniqueFd other(memfd_create("another", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(fallocate(other.get(), 0, 0, file.st_size), 0);
    EXPECT_EQ(fcntl(other.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    return other;
  }
};

TEST_F(LyingSenderTest, IsFoundOutByTheDigest) {
  Connect(/*digests=*/true);
  EXPECT_THAT(Transfer(Message(3 * kMiB, 1)),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(LyingSenderTest, IsBelievedWithoutDigests) {
  Connect(/*digests=*/false);
  absl::StatusOr<Received> received = Transfer(Message(3 * kMiB, 1));
  ASSERT_THAT(received, IsOk());
  EXPECT_EQ(received->receipt.paths.at(0).path, "unix/local/pool");
  EXPECT_FALSE(SameBytes(received->message.tensors[0], Pattern(3 * kMiB, 1)));
}

}  // namespace
}  // namespace tensorferry
