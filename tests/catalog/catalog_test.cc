#include "catalog/catalog.h"

#include <ATen/ops/_nested_tensor_from_tensor_list.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

NamedTensors One(const std::string& name, at::Tensor tensor) {
  NamedTensors contents;
  contents.names = {name};
  contents.tensors = {std::move(tensor)};
  return contents;
}

std::vector<std::string> Names(const std::vector<BundlePtr>& bundles) {
  std::vector<std::string> names;
  for (const BundlePtr& bundle : bundles) names.push_back(bundle->name);
  return names;
}

TEST(CatalogTest, CountsVersionsPerName) {
  Catalog catalog;
  EXPECT_THAT(catalog.Publish("a", {}), IsOkAndHolds(1u));
  EXPECT_THAT(catalog.Publish("a", {}), IsOkAndHolds(2u));
  EXPECT_THAT(catalog.Publish("b", {}), IsOkAndHolds(1u));
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr a, catalog.Get("a"));
  EXPECT_EQ(a->version, 2u);
}

TEST(CatalogTest, AReaderKeepsTheVersionThatItHolds) {
  Catalog catalog;
  ASSERT_THAT(catalog.Publish("a", One("w", at::full({3}, 1))), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr first, catalog.Get("a"));
  ASSERT_THAT(catalog.Publish("a", One("w", at::full({3}, 2))), IsOk());
  EXPECT_EQ(first->version, 1u);
  EXPECT_TRUE(first->contents.tensors[0].equal(at::full({3}, 1)));
}

TEST(CatalogTest, NamesTheVersionThatIsThereInsteadOfTheOneAskedFor) {
  Catalog catalog;
  ASSERT_THAT(catalog.Publish("a", {}), IsOk());
  ASSERT_THAT(catalog.Publish("a", {}), IsOk());
  EXPECT_THAT(catalog.Get("a", 2), IsOk());
  EXPECT_THAT(catalog.Get("a", 1),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("version 2"), HasSubstr("not at 1"))));
  EXPECT_THAT(catalog.Get("b"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"b\"")));
}

TEST(CatalogTest, ListsByGlobInOrderOfNames) {
  Catalog catalog;
  for (const char* name : {"model-b", "other", "model-a"}) {
    ASSERT_THAT(catalog.Publish(name, {}), IsOk());
  }
  EXPECT_THAT(Names(catalog.List()),
              ElementsAre("model-a", "model-b", "other"));
  EXPECT_THAT(Names(catalog.List("model-*")),
              ElementsAre("model-a", "model-b"));
  EXPECT_THAT(catalog.List("none"), IsEmpty());
}

TEST(CatalogTest, GoesOnCountingAfterAWithdrawal) {
  Catalog catalog;
  ASSERT_THAT(catalog.Publish("a", {}), IsOk());
  EXPECT_THAT(catalog.Withdraw("a"), IsOk());
  EXPECT_THAT(catalog.Get("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(catalog.Withdraw("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(catalog.Publish("a", {}), IsOkAndHolds(2u));
}

TEST(CatalogTest, ASealedBundleIsThePublishersMemoryAndACopyIsNot) {
  Catalog catalog;
  at::Tensor weights = at::ones({3});
  ASSERT_THAT(catalog.Publish("sealed", One("w", weights)), IsOk());
  ASSERT_THAT(catalog.Publish("copied", One("w", weights), Ownership::kCopy),
              IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr sealed, catalog.Get("sealed"));
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr copied, catalog.Get("copied"));
  EXPECT_EQ(sealed->contents.tensors[0].const_data_ptr(),
            weights.const_data_ptr());
  weights.zero_();
  EXPECT_TRUE(copied->contents.tensors[0].equal(at::ones({3})));
}

TEST(CatalogTest, CopiesAreAliasedAsTheOriginalsAre) {
  const at::Tensor base = at::arange(12, c10::kFloat).reshape({3, 4});
  NamedTensors contents;
  contents.names = {"base", "row", "transposed", "negated", "sparse"};
  contents.tensors = {base, base[1], base.t(), base._neg_view(),
                      base.to_sparse()};
  contents.tensors[0].set_requires_grad(true);
  Catalog catalog;
  ASSERT_THAT(catalog.Publish("a", contents, Ownership::kCopy), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr bundle, catalog.Get("a"));
  const std::vector<at::Tensor>& copies = bundle->contents.tensors;
  EXPECT_TRUE(copies[0].requires_grad());
  EXPECT_FALSE(copies[1].requires_grad());
  EXPECT_TRUE(copies[2].equal(base.t()));
  EXPECT_EQ(copies[2].strides(), base.t().strides());
  EXPECT_TRUE(copies[3].is_neg());
  EXPECT_TRUE(copies[3].equal(-base.detach()));
  EXPECT_TRUE(copies[4].is_sparse());
  copies[1].fill_(-1);
  EXPECT_TRUE(copies[0].detach()[1].equal(at::full({4}, -1.0f)));
  EXPECT_EQ(base.detach()[1][0].item<float>(), 4);
}

TEST(CatalogTest, RefusesNamesThatCouldNotBeFiles) {
  Catalog catalog;
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."),
        std::string(".hidden"), std::string("a/b"), std::string("a*"),
        std::string("a\nb"), std::string("a\0b", 3), std::string("\xff"),
        std::string("a\xc2\x9b") + "b", std::string(201, 'a')}) {
    EXPECT_THAT(
        catalog.Publish(name, {}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bundle name")))
        << name;
  }
  EXPECT_THAT(catalog.Publish("all-MiniLM L6.v2 \xc3\xa4", {}), IsOk());
}

TEST(CatalogTest, RefusesTensorsThatCannotBeNamed) {
  Catalog catalog;
  NamedTensors twice = One("w", at::ones({1}));
  twice.names.push_back("w");
  twice.tensors.push_back(at::ones({1}));
  for (const NamedTensors& bad :
       {One("", at::ones({1})), One("w", at::Tensor()), twice,
        One("\xff", at::ones({1})),
        One(std::string(4097, 'w'), at::ones({1}))}) {
    EXPECT_THAT(catalog.Publish("a", bad),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  NamedTensors uneven = One("w", at::ones({1}));
  uneven.names.push_back("v");
  EXPECT_THAT(catalog.Publish("a", uneven),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("1 tensors, but 2 names")));
  EXPECT_THAT(catalog.Get("a"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(CatalogTest, RefusesTensorsThatCannotBeSent) {
  Catalog catalog;
  const at::Tensor meta =
      at::empty({2}, at::TensorOptions().device(c10::kMeta));
  const at::Tensor nested =
      at::_nested_tensor_from_tensor_list({at::ones({1}), at::ones({2})});
  for (const at::Tensor& tensor : {meta, nested}) {
    for (Ownership ownership : {Ownership::kSeal, Ownership::kCopy}) {
      EXPECT_THAT(catalog.Publish("a", One("odd", tensor), ownership),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr("\"odd\" is")));
    }
  }
  EXPECT_THAT(catalog.List(), IsEmpty());
}

TEST(CatalogTest, DescribesTensorsByGlob) {
  Bundle bundle;
  bundle.name = "model";
  bundle.version = 3;
  bundle.contents = One("encoder.w", at::ones({2, 3}));
  bundle.contents.names.push_back("decoder.w");
  bundle.contents.tensors.push_back(at::ones({4}, c10::kBFloat16));
  const BundleInfo all = Describe(bundle, "*");
  EXPECT_EQ(all.version, 3u);
  EXPECT_EQ(all.nbytes, 32u);
  const BundleInfo some = Describe(bundle, "dec*");
  ASSERT_EQ(some.tensors.size(), 1u);
  EXPECT_EQ(some.tensors[0].dtype, "BFloat16");
  EXPECT_EQ(some.tensors[0].device, DeviceId());
  EXPECT_EQ(some.nbytes, 8u);
}

TEST(CatalogTest, VersionsNeverGoBackForAReader) {
  Catalog catalog;
  ASSERT_THAT(catalog.Publish("a", One("w", at::full({}, 1))), IsOk());
  constexpr uint64_t kVersions = 500;
  std::vector<std::thread> threads;
  threads.emplace_back([&catalog] {
    for (uint64_t v = 2; v <= kVersions; ++v) {
      EXPECT_THAT(catalog.Publish("a", One("w", at::full({}, int64_t(v)))),
                  IsOkAndHolds(v));
    }
  });
  for (int reader = 0; reader < 4; ++reader) {
    threads.emplace_back([&catalog] {
      for (uint64_t last = 0; last < kVersions;) {
        const BundlePtr bundle = *catalog.Get("a");
        EXPECT_GE(bundle->version, last);
        EXPECT_EQ(bundle->contents.tensors[0].item<int64_t>(),
                  static_cast<int64_t>(bundle->version));
        last = bundle->version;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tensorferry
