#include "serialization/digest.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serialization/allocate.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::NamedMessageOf;
using testing::StatusIs;

class DigestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::Tensor large = at::arange(100000, at::kFloat);
    TensorMessage message = NamedMessageOf(
        {at::ones({3}), large, large.slice(0, 5), at::empty({0})});
    message.payload = "payload";
    auto sent = Serialize(std::move(message), {});
    ASSERT_THAT(sent, IsOk());
    sent_ = *std::move(sent);
    auto received = Allocate(sent_.manifest(), {});
    ASSERT_THAT(received, IsOk());
    received_ = *std::move(received);
    testing::CarryRegions(sent_, received_);
  }

  absl::Status Compare() {
    return CompareDigests(
        sent_.manifest(),
        DigestOf(sent_.manifest(), sent_.regions(), DigestScope::kHost),
        DigestOf(received_.manifest(), received_.regions(),
                 DigestScope::kHost));
  }

  WriteBuffers sent_;
  ReadBuffers received_;
};

TEST_F(DigestTest, HasOneForEachStorageAndThePayload) {
  EXPECT_EQ(
      DigestOf(sent_.manifest(), sent_.regions(), DigestScope::kHost).size(),
      4u);
}

TEST_F(DigestTest, AgreesOnTheSameBytes) { EXPECT_THAT(Compare(), IsOk()); }

TEST_F(DigestTest, NamesTheTensorWhoseBytesDiffer) {
  const Manifest& manifest = received_.manifest();
  received_.regions()[manifest.storage_buffer(1)].data[77] ^= std::byte{1};
  EXPECT_THAT(Compare(),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("storage 1"), HasSubstr("\"a1\""))));
}

TEST_F(DigestTest, NamesThePayload) {
  received_.regions().back().data[0] ^= std::byte{1};
  EXPECT_THAT(Compare(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("payload")));
}

TEST_F(DigestTest, RefusesAnotherCount) {
  EXPECT_THAT(CompareDigests(sent_.manifest(), {1, 2, 3, 4}, {1, 2, 3}),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(DigestTest, AMissingDigestOfHostMemoryIsALoss) {
  EXPECT_THAT(CompareDigests(sent_.manifest(), {0, 2, 3, 4}, {1, 2, 3, 4}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("storage 0")));
  EXPECT_THAT(CompareDigests(sent_.manifest(), {1, 2, 3, 0}, {1, 2, 3, 4}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("payload")));
}

TEST(DigestOfDeviceTest, PassesOverStoragesThatEitherSideHasOnADevice) {
  SerializeOptions options;
  options.placement.rules = {*ParsePlacementRule("a0=cuda:0")};
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({3}), at::ones({4})}), options));
  EXPECT_THAT(CompareDigests(sent.manifest(), {1, 2}, {0, 2}), IsOk());
  EXPECT_THAT(CompareDigests(sent.manifest(), {1, 2}, {0, 3}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("storage 1")));
}

// These values are in receipts: they must not change.
TEST(DigestSummaryTest, IsStable) {
  EXPECT_EQ(DigestSummary({}), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(DigestSummary({1, 2}).size(), 32u);
  EXPECT_NE(DigestSummary({1, 2}), DigestSummary({2, 1}));
}

}  // namespace
}  // namespace tensorferry
