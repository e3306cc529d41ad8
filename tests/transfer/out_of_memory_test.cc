// There is less memory than the limits let a peer's frames take, or than the
// digests of a message do, or what is known of its tensors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/tensorpipe.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "serialization/serialize.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "tests/transfer/raw_peer.h"
#include "transfer/frame_codec.h"

namespace {

constexpr size_t kLarge = size_t{4} << 20;
// How many allocations of kLarge and more there is memory for.
std::atomic<int> large_ones_left = 1 << 30;
// What there is no memory for, to the byte.
std::atomic<size_t> refused_size = 0;

}  // namespace

// The program's own, for all of its libraries.
void* operator new(size_t size) {
  const bool refused = (size >= kLarge && large_ones_left-- <= 0) ||
                       (size != 0 && size == refused_size);
  void* memory = refused ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

class OutOfMemoryTest : public LinkTest {
 protected:
  // A good frame of twice kLarge, which is the peer's until the test is over.
  OutOfMemoryTest() {
    HeaderFrame header;
    header.operation = 1;
    header.plan_digest = rules_.plan_digest;
    header.manifest = std::string(2 * kLarge, 'x');
    frame_ = EncodeFrame(header);
  }
  ~OutOfMemoryTest() override { large_ones_left = 1 << 30; }

  void ExpectLinkEnds(int large_ones, const std::string& what) {
    EndpointOptions options;
    options.executor = &executor_;
    absl::StatusOr<std::unique_ptr<Endpoint>> endpoint =
        Endpoint::Create(options);
    ASSERT_THAT(endpoint, IsOk());
    StatusOutcome up, down;
    absl::StatusOr<Endpoint::Expected> expected =
        (*endpoint)->Expect(rules_, up.done(), down.done());
    ASSERT_THAT(expected, IsOk());
    absl::StatusOr<std::unique_ptr<RawPeer>> peer =
        RawPeer::Connect(expected->addresses, expected->key, rules_);
    ASSERT_THAT(peer, IsOk());
    ASSERT_THAT(up.Wait(), IsOk());
    tensorpipe::Message message;
    message.payloads.push_back({frame_.data(), frame_.size(), ""});
    large_ones_left = large_ones;
    (*peer)->SendMessage(0, std::move(message));
    EXPECT_THAT(down.Wait(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr(what + " ran out of memory")));
    large_ones_left = 1 << 30;
  }

  const TransferRules rules_ = BasicRules();
  std::string frame_;
};

TEST_F(OutOfMemoryTest, FrameThatCannotBeTakenEndsItsLinkOnly) {
  ExpectLinkEnds(0, "taking a frame");
}

TEST_F(OutOfMemoryTest, FrameThatCannotBeReadEndsItsLinkOnly) {
  ExpectLinkEnds(1, "reading a frame");
}

TEST_F(OutOfMemoryTest, HeaderThatCannotBeWrittenEndsItsLinkOnly) {
  FERRY_ASSERT_OK_AND_ASSIGN(std::unique_ptr<Endpoint> endpoint,
                             Endpoint::Create({.executor = &executor_}));
  StatusOutcome up;
  FERRY_ASSERT_OK_AND_ASSIGN(Endpoint::Expected expected,
                             endpoint->Expect(rules_, up.done(), nullptr));
  TensorMessage message{.type = 7};
  const std::string prefix(rules_.limits.name_bytes - 4, 'x');
  while (message.tensors.size() * prefix.size() < kLarge) {
    message.names.push_back(
        absl::StrCat(prefix, 1000 + message.tensors.size()));
    message.tensors.push_back(Pattern(1, 1));
  }
  Outcome<Receipt> sent;
  expected.link->Send(std::move(message), {}, {}, sent.done());
  large_ones_left = 0;
  const auto peer = RawPeer::Connect(expected.addresses, expected.key, rules_);
  EXPECT_THAT(sent.Wait().status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("writing a frame ran out of memory")));
  large_ones_left = 1 << 30;
}

// Of a message of many tensors, whose lengths are an array as the digests are.
class NoMemoryForManyTensorsTest : public LinkTest {
 protected:
  static constexpr size_t kTensors = 5003;
  static constexpr size_t kLengthsBytes = (kTensors + 1) * sizeof(uint64_t);
  // Which view is the first of each tensor.
  static constexpr size_t kViewsBytes = (kTensors + 1) * sizeof(uint32_t);

  ~NoMemoryForManyTensorsTest() override { refused_size = 0; }

  void Meet() {
    FERRY_ASSERT_OK_AND_ASSIGN(endpoint_,
                               Endpoint::Create({.executor = &executor_}));
    StatusOutcome up;
    FERRY_ASSERT_OK_AND_ASSIGN(Endpoint::Expected expected,
                               endpoint_->Expect(rules_, up.done(), nullptr));
    link_ = expected.link;
    FERRY_ASSERT_OK_AND_ASSIGN(
        peer_, RawPeer::Connect(expected.addresses, expected.key, rules_));
    ASSERT_THAT(up.Wait(), IsOk());
    FERRY_ASSERT_OK_AND_ASSIGN(buffers_, Serialize(ManyTensors(), {}));
  }

  void SendHeader(uint64_t operation, const std::string& plan) {
    HeaderFrame header;
    header.operation = operation;
    header.plan_digest = plan;
    header.manifest = EncodeManifest(buffers_.manifest());
    peer_->Send(header);
  }

  static TensorMessage ManyTensors() {
    TensorMessage message{.type = 7};
    for (size_t i = 0; i < kTensors; ++i) {
      message.tensors.push_back(Pattern(32, static_cast<uint8_t>(i)));
    }
    return message;
  }

  const TransferRules rules_ = BasicRules();
  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  std::unique_ptr<RawPeer> peer_;
  WriteBuffers buffers_;
};

TEST_F(NoMemoryForManyTensorsTest, ToDigestThemIsTheSendersErrorAndNotItsEnd) {
  Connect(BasicRules());
  callee().Receive({}, [](auto) {});
  Outcome<Receipt> sent;
  refused_size = kLengthsBytes;
  caller().Send(ManyTensors(), {}, {}, sent.done());
  EXPECT_THAT(sent.Wait().status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("digesting ran out of memory")));
  refused_size = 0;
  EXPECT_THAT(Transfer(ManyTensors()).status(), IsOk());
}

TEST_F(NoMemoryForManyTensorsTest,
       ToDigestThemIsTheReceiversErrorAndNotItsEnd) {
  Meet();
  Outcome<Received> received;
  link_->Receive({}, received.done());
  SendHeader(1, rules_.plan_digest);
  ASSERT_THAT(peer_->Next().status(), IsOk());  // GRANT
  std::vector<size_t> pieces;
  for (const Region& region : buffers_.regions()) {
    if (region.nbytes > 0) pieces.push_back(region.nbytes);
  }
  refused_size = kLengthsBytes;
  peer_->SendBody(1, {1, 1, 0, 0}, pieces);
  peer_->Send(TrailerFrame{1, {}, {}});
  EXPECT_THAT(received.Wait().status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("verifying a message ran out of memory")));
}

TEST_F(NoMemoryForManyTensorsTest,
       ToAllocateThemIsTheReceiversErrorAndNotItsEnd) {
  Meet();
  SendHeader(1, rules_.plan_digest);
  SendHeader(2, "another");
  ASSERT_THAT(peer_->Next().status(), IsOk());  // REFUSE: both have been read
  Outcome<Received> received;
  refused_size = kViewsBytes;
  link_->Receive({}, received.done());
  EXPECT_THAT(received.Wait().status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("allocating a message ran out of memory")));
}

}  // namespace
}  // namespace tensorferry
