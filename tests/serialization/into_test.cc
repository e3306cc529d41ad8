#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_macros.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MessageOf;
using testing::NamedMessageOf;
using testing::StatusIs;

constexpr int64_t kLarge = 1 << 16;  // elements of a storage that is not packed

at::Tensor Range(int64_t n) { return at::arange(n, at::kFloat); }

struct Result {
  TensorMessage message;
  int bounced;
};

// Sends `tensors` as a0, a1, ... into `into`.
absl::StatusOr<Result> SendInto(std::vector<at::Tensor> tensors,
                                Destination into) {
  FERRY_ASSIGN_OR_RETURN(WriteBuffers sent,
                         Serialize(NamedMessageOf(std::move(tensors)), {}));
  AllocateOptions options;
  options.into = std::move(into);
  FERRY_ASSIGN_OR_RETURN(ReadBuffers received,
                         Allocate(sent.manifest(), options));
  testing::CarryRegions(sent, received);
  int bounced = received.bounced();
  FERRY_ASSIGN_OR_RETURN(TensorMessage message,
                         Deserialize(std::move(received)));
  return Result{std::move(message), bounced};
}

TEST(IntoTest, BytesGoStraightIntoTheCallersTensor) {
  at::Tensor mine = at::zeros({kLarge});
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(NamedMessageOf({Range(kLarge)}), {}));
  AllocateOptions options;
  options.into = {{mine}, {"a0"}};
  FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers received,
                             Allocate(sent.manifest(), options));
  EXPECT_EQ(static_cast<void*>(received.regions()[0].data), mine.data_ptr());
  int64_t version = mine._version();
  testing::CarryRegions(sent, received);
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got,
                             Deserialize(std::move(received)));
  EXPECT_TRUE(at::equal(mine, Range(kLarge)));
  EXPECT_TRUE(got.tensors[0].is_same(mine));
  EXPECT_GT(mine._version(), version);
}

TEST(IntoTest, SmallTensorsThatCamePackedArriveWithoutABounce) {
  at::Tensor a = at::zeros({3}), b = at::zeros({2, 2});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got,
      SendInto({Range(3), Range(4).view({2, 2})}, {{b, a}, {"a1", "a0"}}));
  EXPECT_TRUE(at::equal(a, Range(3)));
  EXPECT_TRUE(at::equal(b, Range(4).view({2, 2})));
  EXPECT_EQ(got.bounced, 0);
}

TEST(IntoTest, TensorsThatAreNotNamedAreAllocated) {
  at::Tensor mine = at::zeros({kLarge});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got, SendInto({Range(5), Range(kLarge)}, {{mine}, {"a1"}}));
  EXPECT_TRUE(at::equal(got.message.tensors[0], Range(5)));
  EXPECT_TRUE(at::equal(mine, Range(kLarge)));
}

TEST(IntoTest, OtherStridesAreCopiedAndCounted) {
  at::Tensor mine = at::zeros({256, 512}).t();
  at::Tensor sent = at::randn({512, 256});
  FERRY_ASSERT_OK_AND_ASSIGN(Result got, SendInto({sent}, {{mine}, {"a0"}}));
  EXPECT_TRUE(at::equal(mine, sent));
  EXPECT_EQ(got.bounced, 1);
}

TEST(IntoTest, MemoryBetweenTheElementsOfADestinationIsLeftAlone) {
  at::Tensor whole = at::full({1000, 4}, -1.0);
  at::Tensor mine = whole.slice(1, 0, 2);
  at::Tensor sent = at::randn({1000, 4}).slice(1, 0, 2);
  ASSERT_EQ(mine.strides(), sent.strides());
  FERRY_ASSERT_OK_AND_ASSIGN(Result got, SendInto({sent}, {{mine}, {"a0"}}));
  EXPECT_TRUE(at::equal(mine, sent));
  EXPECT_TRUE(at::equal(whole.slice(1, 2), at::full({1000, 2}, -1.0)));
}

TEST(IntoTest, ConjugatedTensorsArriveInPlainOnes) {
  at::Tensor sent = at::randn({kLarge}, at::kComplexFloat).conj();
  at::Tensor mine = at::zeros({kLarge}, at::kComplexFloat);
  FERRY_ASSERT_OK_AND_ASSIGN(Result got, SendInto({sent}, {{mine}, {"a0"}}));
  EXPECT_TRUE(at::equal(mine, sent.resolve_conj()));
  EXPECT_EQ(got.bounced, 1);
}

TEST(IntoTest, AnAliasGroupArrivesInOneThatLiesTheSame) {
  at::Tensor sent = Range(kLarge), mine = at::zeros({kLarge});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got, SendInto({sent, sent.slice(0, 10, 20)},
                           {{mine, mine.slice(0, 10, 20)}, {"a0", "a1"}}));
  EXPECT_TRUE(at::equal(mine, sent));
  EXPECT_EQ(got.bounced, 0);
}

TEST(IntoTest, AnAliasGroupArrivesInTensorsOfTheirOwn) {
  at::Tensor sent = Range(kLarge);
  at::Tensor mine = at::zeros({kLarge}), part = at::zeros({10});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got,
      SendInto({sent, sent.slice(0, 10, 20)}, {{mine, part}, {"a0", "a1"}}));
  EXPECT_TRUE(at::equal(mine, sent));
  EXPECT_TRUE(at::equal(part, sent.slice(0, 10, 20)));
  EXPECT_EQ(got.bounced, 2);
}

TEST(IntoTest, HalfOfAnAliasGroupIsRefused) {
  at::Tensor sent = Range(kLarge);
  EXPECT_THAT(
      SendInto({sent, sent.slice(0, 0, 10)}, {{at::zeros({kLarge})}, {"a0"}}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("\"a0\""), HasSubstr("\"a1\""))));
}

TEST(IntoTest, WhatDoesNotFitIsRefusedByName) {
  auto refused = [](const char* why) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr("a0"), HasSubstr(why)));
  };
  EXPECT_THAT(SendInto({Range(4)}, {{at::zeros({4}, at::kInt)}, {"a0"}}),
              refused("dtype Int"));
  EXPECT_THAT(SendInto({Range(4)}, {{at::zeros({2, 2})}, {"a0"}}),
              refused("sizes [2, 2]"));
  EXPECT_THAT(SendInto({Range(4)}, {{at::Tensor()}, {"a0"}}),
              refused("not a dense tensor"));
  EXPECT_THAT(SendInto({Range(4)}, {{at::empty({4}, at::kMeta)}, {"a0"}}),
              refused("not a dense tensor"));
  EXPECT_THAT(SendInto({at::eye(3).to_sparse()}, {{at::eye(3)}, {"a0"}}),
              refused("only dense"));
  EXPECT_THAT(
      SendInto({Range(4)}, {{at::zeros({4}), at::zeros({4})}, {"a0", "a0"}}),
      refused("twice"));
  EXPECT_THAT(
      SendInto({at::randn({4, 4})}, {{at::zeros({4}).expand({4, 4})}, {"a0"}}),
      refused("overlaps itself"));
  EXPECT_THAT(SendInto({Range(4)}, {{at::zeros({4})}, {"other"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"other\" is not in the message")));
  EXPECT_THAT(SendInto({Range(4)}, {{at::zeros({4})}, {}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(IntoTest, OverlappingDestinationsAreRefused) {
  at::Tensor mine = at::zeros({20});
  EXPECT_THAT(
      SendInto({Range(10), Range(10)},
               {{mine.slice(0, 0, 10), mine.slice(0, 9, 19)}, {"a0", "a1"}}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("\"a0\""), HasSubstr("\"a1\""),
                     HasSubstr("overlap"))));
  EXPECT_THAT(
      SendInto({Range(10), Range(10)},
               {{mine.slice(0, 0, 10), mine.slice(0, 10, 20)}, {"a0", "a1"}}),
      testing::IsOk());
}

TEST(IntoTest, ATensorOnAnotherDeviceThanAgreedIsRefused) {
  SerializeOptions send;
  send.placement.rules = {*ParsePlacementRule("cpu=cuda:1")};
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(NamedMessageOf({Range(4)}), send));
  AllocateOptions options;
  options.into = {{at::zeros({4})}, {"a0"}};
  EXPECT_THAT(Allocate(sent.manifest(), options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("a0"), HasSubstr("cuda:1"))));
}

TEST(IntoTest, ParametersThatRequireGradAreWrittenTo) {
  at::Tensor small = at::zeros({3}).set_requires_grad(true);
  at::Tensor large = at::zeros({kLarge}).set_requires_grad(true);
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got,
      SendInto({Range(3), Range(kLarge)}, {{small, large}, {"a0", "a1"}}));
  EXPECT_TRUE(at::equal(small.detach(), Range(3)));
  EXPECT_TRUE(at::equal(large.detach(), Range(kLarge)));
  EXPECT_TRUE(small.requires_grad() && small.is_leaf());
}

}  // namespace
}  // namespace tensorferry
