#include "base/placement.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serialization/allocate.h"
#include "serialization/manifest.h"
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

SerializeOptions Placed(std::vector<const char*> rules) {
  SerializeOptions options;
  for (const char* rule : rules) {
    options.placement.rules.push_back(*ParsePlacementRule(rule));
  }
  return options;
}

std::string TargetOf(const Manifest& manifest, int tensor) {
  int storage = manifest.view(manifest.first_view(tensor)).storage;
  return ToString(manifest.storage(storage).target);
}

// The seed indexes targets by wire tensor: here the sparse tensor has two and
// the alias none, and all three still go where they were sent.
TEST(SerializePlacementTest, IsDecidedByStorageNotByWireIndex) {
  at::Tensor dense = at::ones({3});
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(
          NamedMessageOf({at::eye(3).to_sparse(), dense, dense, at::ones({4})}),
          Placed({"a0=cuda:3", "a3=cuda:1"})));
  const Manifest& manifest = sent.manifest();
  EXPECT_EQ(TargetOf(manifest, 0), "cuda:3");
  EXPECT_EQ(ToString(manifest.storage(1).target), "cuda:3");
  EXPECT_EQ(TargetOf(manifest, 1), "cpu");
  EXPECT_EQ(TargetOf(manifest, 2), "cpu");
  EXPECT_EQ(TargetOf(manifest, 3), "cuda:1");
}

TEST(SerializePlacementTest, KeepsStoragesOfTwoTargetsApart) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({1}), at::ones({1}), at::ones({1}),
                                at::ones({1})}),
                Placed({"a1=cuda:0", "a3=cuda:0"})));
  ASSERT_EQ(sent.manifest().buffer_count(), 2);
  EXPECT_EQ(ToString(sent.manifest().buffer_target(0)), "cpu");
  EXPECT_EQ(ToString(sent.manifest().buffer_target(1)), "cuda:0");
}

TEST(SerializePlacementTest, RefusesTwoTargetsForOneStorage) {
  at::Tensor shared = at::ones({3});
  EXPECT_THAT(Serialize(NamedMessageOf({shared, shared.slice(0, 1)}),
                        Placed({"a1=cuda:0"})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"a0\""), HasSubstr("\"a1\""),
                             HasSubstr("cpu"), HasSubstr("cuda:0"))));
}

TEST(CheckPlacementTest, AgreesWithTheSendersDecision) {
  SerializeOptions options = Placed({"a1=cuda:0"});
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({1}), at::ones({1})}), options));
  EXPECT_THAT(CheckPlacement(sent.manifest(), options.placement), IsOk());
}

TEST(CheckPlacementTest, NamesTheTensorThatWasPlacedOtherwise) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({1}), at::ones({1})}),
                Placed({"a1=cuda:0"})));
  EXPECT_THAT(CheckPlacement(sent.manifest(), Placement()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("\"a1\""), HasSubstr("cuda:0"),
                             HasSubstr("cpu"))));
}

// 2,000 names that nearly match 100 globs would take the loop that checks what
// a peer announced very long.
TEST(CheckPlacementTest, NamesAndRulesThatTakeForeverAreRefused) {
  TensorMessage message;
  for (int i = 0; i < 2000; ++i) {
    message.tensors.push_back(at::ones({1}));
    message.names.push_back(std::string(300, 'a') + std::to_string(i));
  }
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent, Serialize(message, {}));
  SerializeOptions slow = Placed(
      std::vector<const char*>(100, "*aaaaaaaa*aaaaaaab*aaaaaaab=cuda:0"));
  EXPECT_THAT(CheckPlacement(sent.manifest(), slow.placement),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("placement"), HasSubstr("steps"))));
}

TEST(SerializePlacementTest, MoreDevicesThanAMessageHasAreRefused) {
  TensorMessage message;
  SerializeOptions options;
  for (int i = 0; i < 300; ++i) {
    message.tensors.push_back(at::ones({1}));
    message.names.push_back("a" + std::to_string(i));
    PlacementRule rule = *ParsePlacementRule(message.names.back() + "=cuda:0");
    rule.target = {i < 150 ? "cuda" : "xpu", i % 150};
    options.placement.rules.push_back(rule);
  }
  EXPECT_THAT(
      Serialize(message, options),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("256 devices")));
}

TEST(AllocateTest, NamesADeviceWithoutConverterAndWhatToLink) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({1})}), Placed({"cpu=cuda:0"})));
  EXPECT_THAT(Allocate(sent.manifest(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("cuda"), HasSubstr("link"))));
}

TEST(AllocateTest, NamesADeviceTypeThatDoesNotExist) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent,
      Serialize(NamedMessageOf({at::ones({1})}), Placed({"cpu=abacus:0"})));
  EXPECT_THAT(
      Allocate(sent.manifest(), {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("abacus")));
}

}  // namespace
}  // namespace tensorferry
