#include "catalog/catalog_service.h"

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "catalog/catalog_client.h"
#include "control/access.h"
#include "control/authorizer.h"
#include "control/security.h"
#include "tensorferry/catalog/catalog.grpc.pb.h"
#include "tests/testing/fixed_grants.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace pb = ::tensorferry::catalog::v1;

using Listed = absl::StatusOr<std::vector<BundleInfo>>;

Listed List(CatalogClient& client, const ListFilter& filter,
            absl::Duration timeout = absl::Minutes(2)) {
  Listed listed;
  absl::Notification ended;
  client.ListBundles(filter, timeout, [&](Listed result) {
    listed = std::move(result);
    ended.Notify();
  });
  ended.WaitForNotification();
  return listed;
}

// A server on any free port.
class Server {
 public:
  explicit Server(grpc::Service* service) {
    Build([service](grpc::ServerBuilder& b) { b.RegisterService(service); });
  }
  explicit Server(CatalogService* service, ServerSecurity security = {}) {
    const auto access = Access::Create(security);
    EXPECT_THAT(access, IsOk());
    Build([&](grpc::ServerBuilder& b) { service->RegisterOn(b, *access); });
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  template <class Register>
  void Build(Register add) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    add(builder);
    server_ = builder.BuildAndStart();
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

void Publish(Catalog& catalog, const std::string& name,
             std::vector<std::string> names) {
  NamedTensors contents;
  for (std::string& tensor : names) {
    contents.names.push_back(std::move(tensor));
    contents.tensors.push_back(at::ones({2, 3}, c10::kBFloat16));
  }
  contents.metadata = {{"format", "pt"}};
  ASSERT_THAT(catalog.Publish(name, std::move(contents)), IsOk());
}

TEST(CatalogServiceTest, ListsWhatIsPublished) {
  Catalog catalog;
  Publish(catalog, "b", {"w"});
  Publish(catalog, "a", {"encoder.w", "decoder.w"});
  Publish(catalog, "a", {"encoder.w", "decoder.w"});
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<BundleInfo> all, List(*client, {}));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "a");
  EXPECT_EQ(all[0].version, 2u);
  EXPECT_EQ(all[0].nbytes, 24u);
  EXPECT_EQ(all[0].metadata.at("format"), "pt");
  ASSERT_EQ(all[0].tensors.size(), 2u);
  EXPECT_EQ(all[0].tensors[0].name, "encoder.w");
  EXPECT_EQ(all[0].tensors[0].dtype, "BFloat16");
  EXPECT_EQ(all[0].tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(all[0].tensors[0].device, DeviceId());
  EXPECT_EQ(all[0].tensors[0].nbytes, 12u);
}

TEST(CatalogServiceTest, RefusesGlobsThatTakeTooLongToMatch) {
  Catalog catalog;
  std::vector<std::string> names;
  for (int i = 0; i < 64; ++i) {
    names.push_back(absl::StrCat(std::string(4090, 'a'), i));
  }
  Publish(catalog, "names", names);
  for (int i = 0; i < 8000; ++i) {
    Publish(catalog, absl::StrCat(std::string(190, 'a'), i), {});
  }
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  for (const ListFilter& filter :
       {ListFilter{.bundle = absl::StrCat("*", std::string(95, 'a'), "b")},
        ListFilter{.bundle = "names",
        .names = absl::StrCat("*", std::string(2047, 'a'), "b")}}) {
    EXPECT_THAT(
        List(*client, filter),
        StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("steps")));
  }
  EXPECT_THAT(List(*client, {.bundle = "*s", .names = "*a*1"}), IsOk());
}

TEST(CatalogServiceTest, NarrowsByGlobs) {
  Catalog catalog;
  Publish(catalog, "model", {"encoder.w", "decoder.w"});
  Publish(catalog, "other", {"w"});
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::vector<BundleInfo> some,
      List(*client, {.bundle = "mod*", .names = "enc*"}));
  ASSERT_EQ(some.size(), 1u);
  ASSERT_EQ(some[0].tensors.size(), 1u);
  EXPECT_EQ(some[0].nbytes, 12u);
  EXPECT_THAT(*List(*client, {.bundle = "none", .names = "*"}), IsEmpty());
}

TEST(CatalogServiceTest, ListsAndCountsOnlyWhatIsGranted) {
  Catalog catalog;
  Publish(catalog, "a", {"x", "y"});
  Publish(catalog, "b", {"x", "y"});
  Publish(catalog, "nothing_of_it", {"y"});
  Grants grants;
  grants.list = {{"a", "*"}, {"*", "x"}};
  ServerSecurity security;
  security.authorizer = std::make_shared<const testing::FixedGrants>(grants);
  CatalogService service(&catalog);
  Server server(&service, security);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  FERRY_ASSERT_OK_AND_ASSIGN(std::vector<BundleInfo> all, List(*client, {}));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].nbytes, 24u);
  EXPECT_EQ(all[1].name, "b");
  EXPECT_EQ(all[1].tensors.size(), 1u);
  EXPECT_EQ(all[1].nbytes, 12u);
}

class ThrowingAuthorizer : public Authorizer {
 public:
  Grants GrantsOf(const Identity&) const override {
    throw std::runtime_error("no grants today");
  }
};

TEST(CatalogServiceTest, WhatTheAuthorizerThrowsIsTheCallersStatus) {
  Catalog catalog;
  ServerSecurity security;
  security.authorizer = std::make_shared<const ThrowingAuthorizer>();
  CatalogService service(&catalog);
  Server server(&service, security);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kInternal,
                                          HasSubstr("no grants today")));
}

TEST(CatalogServiceTest, RefusesGlobsThatAreTooLong) {
  Catalog catalog;
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  const std::string glob(4097, '*');
  for (const ListFilter& filter :
       {ListFilter{.bundle = glob}, ListFilter{.names = glob}}) {
    EXPECT_THAT(
        List(*client, filter),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4097 bytes")));
  }
}

TEST(CatalogServiceTest, AListThatIsTooLongIsRefusedWithALimit) {
  Catalog catalog;
  NamedTensors many;
  const std::string filler(4000, 'x');
  for (int i = 0; i < 17'000; ++i) {
    many.names.push_back(absl::StrCat(filler, i));
    many.tensors.push_back(at::ones({1}));
  }
  ASSERT_THAT(catalog.Publish("many", std::move(many)), IsOk());
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kResourceExhausted,
                                          HasSubstr("fewer bundles or names")));
  // Longer than what gRPC takes when nobody tells it.
  EXPECT_THAT(List(*client, {.bundle = "*", .names = "*1??"}), IsOk());
  EXPECT_THAT(List(*client, {.bundle = "*", .names = "*1????"}), IsOk());
}

TEST(CatalogClientTest, AProxyOfTheEnvironmentIsNotAsked) {
  Catalog catalog;
  CatalogService service(&catalog);
  Server server(&service);
  setenv("http_proxy", "http://127.0.0.1:1", /*overwrite=*/1);
  auto client = CatalogClient::Create(server.address());
  ASSERT_THAT(client, IsOk());
  EXPECT_THAT(List(**client, {}), IsOk());
  unsetenv("http_proxy");
}

TEST(CatalogClientTest, SaysWhatIsWrongWithAnAddress) {
  EXPECT_THAT(CatalogClient::Create("nonsense"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CatalogClientTest, NobodyThereIsUnavailable) {
  int port = 0;
  {
    pb::Catalog::Service nothing;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&nothing);
    builder.BuildAndStart()->Shutdown();
  }
  const std::string address = absl::StrCat("127.0.0.1:", port);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client, CatalogClient::Create(address));
  EXPECT_THAT(List(*client, {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

TEST(CatalogClientTest, APeerWithoutACatalogIsUnimplemented) {
  pb::Catalog::Service nothing;
  Server server(&nothing);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kUnimplemented));
}

// Answers with what it is told to.
class Liar : public pb::Catalog::Service {
 public:
  grpc::Status ListBundles(grpc::ServerContext*, const pb::ListBundlesRequest*,
                           pb::ListBundlesResponse* response) override {
    *response = answer;
    return grpc::Status::OK;
  }
  pb::ListBundlesResponse answer;
};

TEST(CatalogClientTest, AnAnswerThatIsNotWellFormedIsAnError) {
  Liar liar;
  pb::Bundle* bundle = liar.answer.add_bundles();
  bundle->set_name("m");
  pb::Tensor* tensor = bundle->add_tensors();
  tensor->set_name("w");
  tensor->set_device("cuda:200");
  Server server(&liar);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("tensor \"w\"")));
  tensor->set_device("cpu");
  tensor->add_shape(-1);
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kInvalidArgument));
  tensor->set_shape(0, 1);
  EXPECT_THAT(List(*client, {}), IsOk());
  bundle->set_name("../m");
  EXPECT_THAT(List(*client, {}), StatusIs(absl::StatusCode::kInvalidArgument));
}

// Never answers before its caller has gone.
class Silent : public pb::Catalog::Service {
 public:
  grpc::Status ListBundles(grpc::ServerContext* context,
                           const pb::ListBundlesRequest*,
                           pb::ListBundlesResponse*) override {
    if (!called.HasBeenNotified()) called.Notify();
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  }
  absl::Notification called;
};

TEST(CatalogClientTest, WhatACallbackThrowsIsDropped) {
  Catalog catalog;
  CatalogService service(&catalog);
  Server server(&service);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  absl::Notification told;
  client->ListBundles({}, absl::Seconds(30), [&](Listed) {
    told.Notify();
    throw std::runtime_error("a user's mistake");
  });
  told.WaitForNotification();
  EXPECT_THAT(List(*client, {}), IsOk());
}

TEST(CatalogClientTest, EveryCallEndsByItsDeadline) {
  Silent silent;
  Server server(&silent);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  EXPECT_THAT(List(*client, {}, absl::Milliseconds(10)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(CatalogClientTest, DestroyingItCancelsItsCalls) {
  Silent silent;
  Server server(&silent);
  FERRY_ASSERT_OK_AND_ASSIGN(auto client,
                             CatalogClient::Create(server.address()));
  Listed listed;
  client->ListBundles({}, absl::Minutes(10),
                      [&listed](Listed result) { listed = std::move(result); });
  silent.called.WaitForNotification();
  client.reset();
  EXPECT_THAT(listed, StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace tensorferry
