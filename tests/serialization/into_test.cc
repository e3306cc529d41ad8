#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/dtype.h"
#include "serialization/serialize.h"
#include "serialization/torch_types.h"
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

TEST(IntoTest, TiedWeightsArriveInTiedOnesOfOtherStrides) {
  at::Tensor sent = at::randn({512, 256});
  at::Tensor mine = at::zeros({256, 512}).t();
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got, SendInto({sent, sent}, {{mine, mine}, {"a0", "a1"}}));
  EXPECT_TRUE(at::equal(mine, sent));
  EXPECT_EQ(got.bounced, 2);
}

TEST(IntoTest, ViewsThatOverlapArriveInOnesThatOverlapAlike) {
  for (int64_t scale : {1, 4096}) {  // packed, and in a buffer of its own
    at::Tensor sent = at::randn({64 * scale}), mine = at::zeros({64 * scale});
    auto views = [&](const at::Tensor& t) {
      return std::vector<at::Tensor>{t.slice(0, 0, 40 * scale),
                                     t.slice(0, 20 * scale, 64 * scale)};
    };
    FERRY_ASSERT_OK_AND_ASSIGN(
        Result got, SendInto(views(sent), {views(mine), {"a0", "a1"}}));
    EXPECT_TRUE(at::equal(mine, sent));
    EXPECT_EQ(got.bounced, 0);
  }
}

TEST(IntoTest, ViewsWithHolesThatOverlapArriveInOnesThatOverlapAlike) {
  at::Tensor sent = at::randn({1000, 4}), mine = at::full({1000, 4}, -1.0);
  auto views = [](const at::Tensor& t) {
    return std::vector<at::Tensor>{t.slice(1, 0, 2), t.slice(1, 0, 2),
                                   t.slice(1, 1, 3)};
  };
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got, SendInto(views(sent), {views(mine), {"a0", "a1", "a2"}}));
  EXPECT_TRUE(at::equal(mine.slice(1, 0, 3), sent.slice(1, 0, 3)));
  EXPECT_TRUE(at::equal(mine.slice(1, 3), at::full({1000, 1}, -1.0)));
  EXPECT_EQ(got.bounced, 3);
}

TEST(IntoTest, OnesThatOverlapOtherwiseThanTheViewsAreRefused) {
  at::Tensor sent = Range(64), mine = at::zeros({64});
  EXPECT_THAT(
      SendInto({sent.slice(0, 0, 20), sent.slice(0, 10, 30)},
               {{mine.slice(0, 0, 20), mine.slice(0, 11, 31)}, {"a0", "a1"}}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("overlap")));
  at::Tensor complex = at::randn({8}, at::kComplexFloat);
  at::Tensor plain = at::zeros({8}, at::kComplexFloat);
  EXPECT_THAT(
      SendInto({complex, complex.conj()}, {{plain, plain}, {"a0", "a1"}}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("overlap")));
}

TEST(IntoTest, ColumnsOfOneMatrixDoNotOverlap) {
  at::Tensor fused = at::zeros({50, 7}), cube = at::zeros({6, 5, 7});
  at::Tensor a = at::randn({50, 3}), b = at::randn({50, 4});
  at::Tensor c = at::randn({6, 5, 3}), d = at::randn({6, 5, 4});
  at::Tensor z = at::zeros({9}, at::kComplexFloat);
  at::Tensor re = at::randn({9}), im = at::randn({9});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got,
      SendInto({a, b, c, d, re, im},
               {{fused.slice(1, 0, 3), fused.slice(1, 3), cube.slice(2, 0, 3),
                 cube.slice(2, 3), at::real(z), at::imag(z)},
                {"a0", "a1", "a2", "a3", "a4", "a5"}}));
  EXPECT_TRUE(at::equal(fused, at::cat({a, b}, 1)));
  EXPECT_TRUE(at::equal(cube, at::cat({c, d}, 2)));
  EXPECT_TRUE(at::equal(z, at::complex(re, im)));
  EXPECT_EQ(got.bounced, 6);
  EXPECT_THAT(
      SendInto({a, a},
               {{fused.slice(1, 0, 3), fused.slice(1, 2, 5)}, {"a0", "a1"}}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("overlap")));
}

// Whether it is packed or not, and whatever else is in the message.
TEST(IntoTest, EveryDtypeArrives) {
  for (int64_t n : {int64_t{5}, kLarge}) {
    for (uint8_t code = 1; FindDtype(code) != nullptr; ++code) {
      if (FindDtype(code)->type_class == DtypeInfo::kQuantised) continue;
      auto of = [&](const at::Tensor& bytes) {
        at::Tensor tensor = at::empty({0}, ScalarTypeOf(Dtype{code}));
        tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(bytes.storage());
        tensor.unsafeGetTensorImpl()->set_sizes_contiguous({n, 2});
        return tensor;
      };
      int64_t nbytes = 2 * n * FindDtype(code)->itemsize;
      at::Tensor sent = at::randint(2, {nbytes}, at::kByte);
      at::Tensor mine = at::zeros({nbytes}, at::kByte);
      at::Tensor strided = at::zeros({nbytes}, at::kByte);
      at::Tensor other = of(strided);
      const std::vector<int64_t> sizes = {n, 2}, strides = {1, n};
      other.unsafeGetTensorImpl()->set_sizes_and_strides(
          c10::IntArrayRef(sizes), c10::IntArrayRef(strides));
      FERRY_ASSERT_OK_AND_ASSIGN(
          Result got, SendInto({of(sent), Range(3), of(sent.clone())},
                               {{of(mine), other}, {"a0", "a2"}}));
      EXPECT_TRUE(at::equal(mine, sent)) << FindDtype(code)->name;
      EXPECT_EQ(got.bounced, 1);
      int64_t itemsize = FindDtype(code)->itemsize;
      EXPECT_TRUE(at::equal(strided.view({2, n, itemsize}).transpose(0, 1),
                            sent.view({n, 2, itemsize})))
          << FindDtype(code)->name;
    }
  }
}

TEST(IntoTest, InferenceTensorsArriveWhetherPackedOrNot) {
  at::Tensor small, large, other;
  {
    c10::InferenceMode inference;
    small = at::zeros({3});
    large = at::zeros({kLarge});
    other = at::zeros({2, 3}).t();
  }
  at::Tensor matrix = at::randn({3, 2});
  FERRY_ASSERT_OK_AND_ASSIGN(
      Result got, SendInto({Range(3), Range(kLarge), matrix},
                           {{small, large, other}, {"a0", "a1", "a2"}}));
  EXPECT_TRUE(at::equal(small, Range(3)));
  EXPECT_TRUE(at::equal(large, Range(kLarge)));
  EXPECT_TRUE(at::equal(other, matrix));
}

TEST(IntoTest, ExpandedTensorsArriveInOnesExpandedAlike) {
  for (int64_t n : {int64_t{4}, kLarge}) {
    at::Tensor sent = Range(n), mine = at::zeros({n});
    at::Tensor holey = at::zeros({n, 2});
    at::Tensor column = holey.select(1, 0);
    FERRY_ASSERT_OK_AND_ASSIGN(
        Result got,
        SendInto({sent.expand({3, n}), at::randn({n, 2})
                                           .copy_(sent.view({n, 1}))
                                           .select(1, 0)
                                           .expand({3, n})},
                 {{mine.expand({3, n}), column.expand({3, n})}, {"a0", "a1"}}));
    EXPECT_TRUE(at::equal(mine, sent));
    EXPECT_TRUE(at::equal(column, sent));
    EXPECT_TRUE(at::equal(holey.select(1, 1), at::zeros({n})));
  }
}

TEST(IntoTest, ADestinationThatDoesNotLieInItsStorageIsRefused) {
  for (int64_t n : {int64_t{4}, kLarge}) {
    for (int64_t left : {0, 8}) {
      at::Tensor mine = at::zeros({n});
      mine.storage().unsafeGetStorageImpl()->set_nbytes(left);
      EXPECT_THAT(
          SendInto({Range(n)}, {{mine}, {"a0"}}),
          StatusIs(absl::StatusCode::kInvalidArgument,
                   AllOf(HasSubstr("\"a0\""),
                         HasSubstr(absl::StrCat("storage of ", left)))));
    }
    at::Tensor mine = at::zeros({n});
    mine.storage().unsafeGetStorageImpl()->set_data_ptr(
        c10::DataPtr(nullptr, c10::Device(c10::kCPU)));
    EXPECT_THAT(
        SendInto({Range(n)}, {{mine}, {"a0"}}),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("\"a0\""), HasSubstr("without memory"))));
  }
}

// set_data and the like take a tensor's storage away while bytes arrive.
TEST(IntoTest, TheMemoryStaysWhileItIsReceivedInto) {
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(NamedMessageOf({Range(kLarge)}), {}));
  AllocateOptions options;
  options.into = {{at::zeros({kLarge})}, {"a0"}};
  FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers received,
                             Allocate(sent.manifest(), options));
  at::Tensor kept = options.into.tensors[0];
  c10::Storage old = kept.storage();
  kept.set_(at::zeros({kLarge}));
  EXPECT_GT(old.use_count(), 1u);
  testing::CarryRegions(sent, received);
  EXPECT_THAT(Deserialize(std::move(received)), testing::IsOk());
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
  EXPECT_THAT(SendInto({at::randn({3, 3})},
                       {{at::zeros({5}).as_strided({3, 3}, {1, 1})}, {"a0"}}),
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
