// Pulls and pushes between two peers in one process, over real gRPC and real
// lanes.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "catalog/blocking.h"
#include "catalog/catalog.h"
#include "catalog/catalog_client.h"
#include "catalog/safetensors.h"
#include "catalog/serve.h"
#include "catalog/wire_types.h"
#include "control/authorizer.h"
#include "control/security.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tensorferry/catalog/catalog.pb.h"
#include "tests/testing/becomes.h"
#include "tests/testing/fixed_grants.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::kPatience;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

NamedTensors Contents(std::vector<std::string> names, float value,
                      int64_t size) {
  NamedTensors contents;
  for (std::string& name : names) {
    contents.names.push_back(std::move(name));
    contents.tensors.push_back(at::full({size}, value));
  }
  return contents;
}

absl::StatusOr<NamedTensors> TakeAll(const std::string&,
                                     NamedTensors contents) {
  return contents;
}

// A peer that serves a catalog.
class Store {
 public:
  explicit Store(CatalogServerOptions options = {},
                 ServerSecurity security = {})
      : server_(&catalog_, std::move(options)) {
    PeerOptions peer = {.name = "store", .security = std::move(security)};
    server_.MountOn(peer);
    peer_ = *Peer::Create(std::move(peer));
    peer_->Accept([this](std::shared_ptr<Session> session) {
      // Not OK if the session has ended by now.
      server_.Serve(std::move(session)).IgnoreError();
    });
  }
  Catalog& catalog() { return catalog_; }
  const std::string& address() const { return peer_->control_address(); }
  bool HasSessions() { return !peer_->ListSessions().empty(); }

 private:
  Catalog catalog_;
  CatalogServer server_;
  std::unique_ptr<Peer> peer_;
};

class PullPushTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FERRY_ASSERT_OK_AND_ASSIGN(caller_,
                               Peer::Create({.name = "caller", .control = ""}));
  }
  std::shared_ptr<Session> Connect(const std::string& address) {
    return *blocking::Connect(*caller_, address, {}, kPatience);
  }

  std::unique_ptr<Peer> caller_;
};

TEST_F(PullPushTest, PullsABundleWithAllThatGoesWithIt) {
  Store store;
  NamedTensors contents = Contents({"a", "b"}, 3, 100'000);
  contents.tensors.push_back(at::arange(4, c10::kLong).reshape({2, 2}).t());
  contents.names.push_back("view");
  contents.metadata = {{"format", "pt"}};
  contents.file_header = "{the header}";
  ASSERT_THAT(store.catalog().Publish("model", contents), IsOk());
  ASSERT_THAT(store.catalog().Publish("model", contents), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(Connect(store.address()), {.bundle = "model"}));
  EXPECT_THAT(pulled.bundles, ElementsAre(BundleVersion{"model", 2}));
  EXPECT_EQ(pulled.contents.names, contents.names);
  EXPECT_EQ(pulled.contents.metadata, contents.metadata);
  EXPECT_EQ(pulled.contents.file_header, contents.file_header);
  for (size_t i = 0; i < contents.tensors.size(); ++i) {
    EXPECT_TRUE(pulled.contents.tensors[i].equal(contents.tensors[i]));
  }
  EXPECT_EQ(pulled.receipt.tensors, 3);
  EXPECT_GE(pulled.receipt.bytes, 800'000u);
  EXPECT_THAT(pulled.receipt.digest, Not(IsEmpty()));
  EXPECT_GT(pulled.receipt.time, absl::ZeroDuration());
}

TEST_F(PullPushTest, PullsByGlobFromAllBundles) {
  Store store;
  NamedTensors first = Contents({"x.w", "x.b"}, 1, 2);
  first.metadata = {{"format", "pt"}, {"step", "1"}};
  first.file_header = "{...}";
  NamedTensors second = Contents({"y.w", "y.b"}, 2, 2);
  second.metadata = {{"format", "pt"}, {"step", "2"}};
  ASSERT_THAT(store.catalog().Publish("first", first), IsOk());
  ASSERT_THAT(store.catalog().Publish("second", second), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(Connect(store.address()), {.names = "*.w"}));
  EXPECT_THAT(pulled.bundles, ElementsAre(BundleVersion{"first", 1},
                                          BundleVersion{"second", 1}));
  EXPECT_THAT(pulled.contents.names, ElementsAre("x.w", "y.w"));
  EXPECT_THAT(pulled.contents.file_header, IsEmpty());
  const std::map<std::string, std::string> merged = {
      {"format", "pt"}, {"first/step", "1"}, {"second/step", "2"}};
  EXPECT_EQ(pulled.contents.metadata, merged);
}

TEST_F(PullPushTest, PullsIntoTheCallersOwnTensors) {
  Store store;
  ASSERT_THAT(store.catalog().Publish("model", Contents({"a", "b"}, 5, 50'000)),
              IsOk());
  at::Tensor mine = at::zeros({50'000});
  const void* const where = mine.const_data_ptr();
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(
          Connect(store.address()),
          {.bundle = "model", .into = {.tensors = {mine}, .names = {"a"}}}));
  EXPECT_TRUE(mine.equal(at::full({50'000}, 5.0f)));
  EXPECT_EQ(pulled.contents.tensors[0].const_data_ptr(), where);
}

TEST_F(PullPushTest, SaysWhatIsNotThere) {
  Store store;
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Pull(session), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_THAT(store.catalog().Publish("a", Contents({"w"}, 1, 1)), IsOk());
  ASSERT_THAT(store.catalog().Publish("b", Contents({"w"}, 1, 1)), IsOk());
  EXPECT_THAT(blocking::Pull(session, {.bundle = "c"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"c\"")));
  EXPECT_THAT(blocking::Pull(session, {.bundle = "a", .names = "v*"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"v*\"")));
  EXPECT_THAT(blocking::Pull(session),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"w\""), HasSubstr("choose"))));
}

TEST_F(PullPushTest, ProgressEndsWithAllBytes) {
  Store store({.accept_push = TakeAll});
  ASSERT_THAT(store.catalog().Publish("model", Contents({"a"}, 1, 4'000'000)),
              IsOk());
  const auto session = Connect(store.address());
  Progress pull, push;
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(session, {.progress = [&](Progress p) { pull = p; }}));
  EXPECT_EQ(pull.total, 16'000'000u);
  EXPECT_EQ(pull.bytes, pull.total);
  ASSERT_THAT(blocking::Push(session, pulled.contents,
                             {.bundle = "back",
                              .progress = [&](Progress p) { push = p; }}),
              IsOk());
  EXPECT_EQ(push.total, 16'000'000u);
  EXPECT_EQ(push.bytes, push.total);
}

TEST_F(PullPushTest, WhatAProgressCallbackThrowsEndsNoTransfer) {
  absl::Notification thrown;
  const ProgressCallback progress = [&thrown](Progress) {
    if (!thrown.HasBeenNotified()) thrown.Notify();
    throw std::runtime_error("a bug");
  };
  Store store(
      {.accept_push = [&thrown](const std::string&, NamedTensors contents) {
        thrown.WaitForNotification();  // so it is under way, not at its end
        return contents;
      }});
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 1),
                             {.bundle = "model", .progress = progress}),
              IsOk());
  EXPECT_THAT(blocking::Pull(session, {.progress = progress}), IsOk());
}

// A progress callback that there is no memory to copy.
struct Uncopyable {
  Uncopyable() = default;
  Uncopyable(Uncopyable&&) = default;
  Uncopyable(const Uncopyable&) { throw std::bad_alloc(); }
  void operator()(Progress) const {}
};

TEST_F(PullPushTest, WhatCannotBeWatchedEnds) {
  Store store({.accept_push = TakeAll});
  ASSERT_THAT(store.catalog().Publish("model", Contents({"a"}, 1, 1)), IsOk());
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Pull(session, {.progress = Uncopyable()}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 1),
                             {.bundle = "model", .progress = Uncopyable()}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(blocking::Pull(session), IsOk());
}

TEST_F(PullPushTest, PushesBecomeTheNextVersion) {
  std::vector<std::string> taken;
  Store store({.accept_push = [&taken](const std::string& bundle,
                                       NamedTensors contents) {
    taken.push_back(absl::StrCat(bundle, ":", contents.names.size(), ":",
                                 contents.file_header));
    return contents;
  }});
  ASSERT_THAT(store.catalog().Publish("model", {}), IsOk());
  const auto session = Connect(store.address());
  NamedTensors contents = Contents({"a", "b"}, 7, 100'000);
  contents.metadata = {{"k", "v"}};
  contents.file_header = "{header}";
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pushed pushed, blocking::Push(session, contents, {.bundle = "model"}));
  EXPECT_EQ(pushed.version, 2u);
  EXPECT_EQ(pushed.receipt.tensors, 2);
  EXPECT_GE(pushed.receipt.bytes, 800'000u);
  EXPECT_THAT(pushed.receipt.digest, Not(IsEmpty()));
  EXPECT_THAT(taken, ElementsAre("model:2:{header}"));
  FERRY_ASSERT_OK_AND_ASSIGN(BundlePtr bundle, store.catalog().Get("model"));
  EXPECT_EQ(bundle->version, 2u);
  EXPECT_EQ(bundle->contents.names, contents.names);
  EXPECT_EQ(bundle->contents.metadata, contents.metadata);
  EXPECT_TRUE(bundle->contents.tensors[1].equal(contents.tensors[1]));
}

TEST_F(PullPushTest, APeerThatTakesNoPushesIsNotSentTheTensors) {
  Store store;
  const auto session = Connect(store.address());
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 1'000'000),
                     {.bundle = "model"}),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--accept")));
  EXPECT_LT(session->counters().bytes_sent, 100'000u);
  EXPECT_THAT(store.catalog().List(), IsEmpty());
}

TEST_F(PullPushTest, WhoMayPushNothingIsNotReceivedFrom) {
  Grants grants = Grants::All();
  grants.push.clear();
  ServerSecurity security;
  security.authorizer = std::make_shared<const testing::FixedGrants>(grants);
  Store store({.accept_push = TakeAll}, security);
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 1'000'000),
                             {.bundle = "model"}),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("may not push bundle")));
  // Nor if it does not ask before.
  pb::PushRequest request;
  request.set_bundle("model");
  request.set_timeout_ms(60'000);
  EXPECT_THAT(blocking::Call(*session,
                             {.type = kPushType,
                              .payload = request.SerializeAsString(),
                              .tensors = {at::ones({1'000'000})},
                              .names = {"a"}},
                             {.timeout = absl::Milliseconds(200)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_LT(session->counters().bytes_sent, 100'000u);
  EXPECT_THAT(store.catalog().List(), IsEmpty());
}

TEST_F(PullPushTest, PushesBeyondTheQueueAreRefused) {
  absl::Notification taking, go_on;
  Store store({.accept_push =
                   [&](const std::string&, NamedTensors contents) {
                     if (!taking.HasBeenNotified()) {
                       taking.Notify();
                       go_on.WaitForNotification();
                     }
                     return contents;
                   },
               .max_queued_push_bytes = 10'000});
  const auto session = Connect(store.address());
  std::thread first([&] {  // alone it may be larger
    EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 10'000),
                               {.bundle = "first"}),
                IsOk());
  });
  taking.WaitForNotification();
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 10), {.bundle = "second"}),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("queued_push_bytes")));
  // Nor if it was not asked for before.
  pb::PushRequest request;
  request.set_bundle("second");
  request.set_timeout_ms(60'000);
  EXPECT_THAT(blocking::Call(*session, {.type = kPushType,
                                        .payload = request.SerializeAsString(),
                                        .tensors = {at::ones({10})},
                                        .names = {"a"}}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("queued_push_bytes")));
  go_on.Notify();
  first.join();
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 10), {.bundle = "second"}),
      IsOk());
}

TEST_F(PullPushTest, WhatMetadataTakesWhileItWaitsIsCounted) {
  absl::Notification taking, go_on;
  Store store({.accept_push =
                   [&](const std::string&, NamedTensors contents) {
                     taking.Notify();
                     go_on.WaitForNotification();
                     return contents;
                   },
               .max_queued_push_bytes = 50'000});
  const auto session = Connect(store.address());
  NamedTensors contents = Contents({"a"}, 1, 1);
  for (int i = 0; i < 1000; ++i) contents.metadata[absl::StrCat(i)] = "";
  std::thread first([&] {
    FERRY_ASSERT_OK_AND_ASSIGN(
        Pushed pushed, blocking::Push(session, contents, {.bundle = "first"}));
    EXPECT_LT(pushed.receipt.bytes, 20'000u);
  });
  taking.WaitForNotification();
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 1), {.bundle = "second"}),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("queued_push_bytes")));
  go_on.Notify();
  first.join();
}

TEST_F(PullPushTest, APushThatIsRefusedIsNotPublished) {
  Store store({.accept_push = [](const auto&...) {
    return absl::ResourceExhaustedError("the disk is full");
  }});
  EXPECT_THAT(blocking::Push(Connect(store.address()), Contents({"a"}, 1, 1),
                             {.bundle = "model"}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the disk is full")));
  EXPECT_THAT(store.catalog().List(), IsEmpty());
}

TEST_F(PullPushTest, APushThatThereIsNoRoomForIsNotSent) {
  std::vector<std::string> asked;
  Store store(
      {.accept_push = TakeAll,
       .check_push = [&asked](const std::string& bundle, uint64_t nbytes) {
         asked.push_back(absl::StrCat(bundle, ":", nbytes));
         return absl::ResourceExhaustedError("the disk is full");
       }});
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 1'000'000),
                             {.bundle = "model"}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the disk is full")));
  EXPECT_THAT(asked, ElementsAre("model:4000000"));
  EXPECT_LT(session->counters().bytes_sent, 100'000u);
}

TEST_F(PullPushTest, AServerWhoseHandlerThrewStillEnds) {
  Store store({.accept_push = TakeAll,
               .check_push = [](const auto&...) -> absl::Status {
                 throw std::runtime_error("a bug");
               }});
  EXPECT_THAT(blocking::Push(Connect(store.address()), Contents({"a"}, 1, 1),
                             {.bundle = "model"}),
              StatusIs(absl::StatusCode::kInternal));
}

TEST_F(PullPushTest, WhatAcceptPushThrowsRefusesThePush) {
  Store store(
      {.accept_push = [](const auto&...) -> absl::StatusOr<NamedTensors> {
        throw std::runtime_error("a bug");
      }});
  EXPECT_THAT(blocking::Push(Connect(store.address()), Contents({"a"}, 1, 1),
                             {.bundle = "model"}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("a bug")));
  EXPECT_THAT(store.catalog().List(), IsEmpty());
}

TEST_F(PullPushTest, WhatOnServedThrowsIsDropped) {
  Store store(
      {.accept_push = [](const std::string& bundle, NamedTensors contents)
           -> absl::StatusOr<NamedTensors> {
         if (bundle == "model") return contents;
         return absl::ResourceExhaustedError("the disk is full");
       },
       .on_served = [](const auto&) { throw std::runtime_error("a bug"); }});
  const auto session = Connect(store.address());
  const NamedTensors contents = Contents({"a"}, 1, 1);
  EXPECT_THAT(blocking::Push(session, contents, {.bundle = "other"}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(blocking::Push(session, contents, {.bundle = "model"}), IsOk());
  EXPECT_THAT(blocking::Pull(session, {.bundle = "other"}),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(blocking::Pull(session, {.bundle = "model"}), IsOk());
}

TEST_F(PullPushTest, EveryPullIsToldOnceWithTheStatusOfItsAnswer) {
  absl::Mutex mu;
  std::vector<std::string> told;
  Store store({.on_served = [&](const ServedRequest& served) {
    absl::MutexLock lock(&mu);
    told.push_back(
        absl::StrCat(served.what, " ", served.bundle, " ",
                     absl::StatusCodeToString(served.status.code())));
  }});
  ASSERT_THAT(store.catalog().Publish("model", Contents({"a"}, 1, 1)), IsOk());
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Pull(session, {.bundle = "none"}), Not(IsOk()));
  EXPECT_THAT(
      blocking::Pull(session, {.bundle = "model", .progress = [](Progress) {}}),
      IsOk());
  absl::MutexLock lock(&mu);
  mu.Await(absl::Condition(
      +[](std::vector<std::string>* told) { return told->size() >= 2; },
      &told));
  EXPECT_THAT(told, ElementsAre("pull none NOT_FOUND", "pull model OK"));
}

TEST_F(PullPushTest, APushIsNotToldAsAnsweredIfNobodyWasThereAnyMore) {
  absl::Notification taking, go_on, told;
  absl::Status status;
  Store store({.accept_push =
                   [&](const std::string&, NamedTensors contents) {
                     taking.Notify();
                     go_on.WaitForNotification();
                     return contents;
                   },
               .on_served =
                   [&](const ServedRequest& served) {
                     status = served.status;
                     told.Notify();
                   }});
  auto session = Connect(store.address());
  Push(session, Contents({"a"}, 1, 1), {.bundle = "model"},
       [](absl::StatusOr<Pushed>) {});
  taking.WaitForNotification();
  EXPECT_THAT(blocking::Close(*session, absl::ZeroDuration()), IsOk());
  session = nullptr;
  EXPECT_TRUE(Becomes([&] { return !store.HasSessions(); }));
  go_on.Notify();
  told.WaitForNotification();
  EXPECT_THAT(status, Not(IsOk()));
}

TEST_F(PullPushTest, RequestsThatAreNoneAreToldOnceToo) {
  absl::Mutex mu;
  std::vector<std::string> told;
  Store store(
      {.accept_push = TakeAll, .on_served = [&](const ServedRequest& served) {
         absl::MutexLock lock(&mu);
         told.push_back(absl::StrCat(served.what, " ", served.bundle));
       }});
  const auto session = Connect(store.address());
  for (uint32_t type : {kPullType, kPushOfferType, kPushType}) {
    EXPECT_THAT(blocking::Call(*session, {.type = type, .payload = "\xff\xff"}),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  absl::MutexLock lock(&mu);
  EXPECT_THAT(told, ElementsAre("pull ?", "push ?", "push ?"));
}

TEST_F(PullPushTest, AFileThatWasChangedIsNeitherPulledNorPushed) {
  std::string path = ::testing::TempDir() + "/changed_XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ASSERT_THAT(WriteSafetensors(path, Contents({"a"}, 1, 1000)), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors contents, ReadSafetensors(path));
  Store store({.accept_push = TakeAll});
  ASSERT_THAT(store.catalog().Publish("model", contents), IsOk());
  const auto session = Connect(store.address());
  EXPECT_THAT(blocking::Pull(session), IsOk());
  std::filesystem::resize_file(path, 5000);
  EXPECT_THAT(blocking::Pull(session),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("changed since it was opened")));
  EXPECT_THAT(blocking::Push(session, contents, {.bundle = "model"}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  close(fd);
  unlink(path.c_str());
}

TEST_F(PullPushTest, APushThatCannotBePublishedIsRefusedAtHome) {
  Store store({.accept_push = TakeAll});
  const auto session = Connect(store.address());
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 1), {.bundle = "../etc"}),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(blocking::Push(session, Contents({""}, 1, 1), {.bundle = "m"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(PullPushTest, RequestsThatAreNoneAreRefused) {
  int accepted = 0;
  Store store(
      {.accept_push = [&accepted](const std::string&, NamedTensors contents) {
        ++accepted;
        return contents;
      }});
  const auto session = Connect(store.address());
  for (uint32_t type : {kPullType, kPushOfferType, kPushType, kEchoType}) {
    EXPECT_THAT(
        blocking::Call(*session, {.type = type, .payload = "\xff\xff"}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 bytes")))
        << type;
  }
  pb::PushRequest outside;
  outside.set_bundle("../outside");
  outside.set_timeout_ms(60'000);
  EXPECT_THAT(
      blocking::Call(*session, {.type = kPushType,
                                .payload = outside.SerializeAsString(),
                                .tensors = {at::ones({1})},
                                .names = {"a"}}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bundle name")));
  pb::PushRequest nameless;
  nameless.set_bundle("model");
  nameless.set_timeout_ms(60'000);
  EXPECT_THAT(blocking::Call(*session, {.type = kPushType,
                                        .payload = nameless.SerializeAsString(),
                                        .tensors = {at::ones({1})}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("names")));
  EXPECT_EQ(accepted, 0);
  EXPECT_THAT(store.catalog().List(), IsEmpty());
}

// Field 127, which nobody knows, over and over.
std::string FarTooManyFields() {
  std::string fields;
  for (int i = 0; i < (1 << 20) + 1; ++i) fields += "\xf8\x07\x01";
  return fields;
}

TEST_F(PullPushTest, RequestsOfFarMoreFieldsThanTheyHaveAreRefusedUnparsed) {
  Store store({.accept_push = TakeAll});
  const auto session = Connect(store.address());
  const std::string fields = FarTooManyFields();
  const std::string group = "\xfb\x07" + fields + "\xfc\x07";
  for (uint32_t type : {kPullType, kPushOfferType, kPushType, kEchoType}) {
    for (const std::string& payload : {fields, group}) {
      EXPECT_THAT(
          blocking::Call(*session, {.type = type, .payload = payload}),
          StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("fields")))
          << type;
    }
  }
}

// A peer that answers pulls with what it is told to, or not at all.
class Liar {
 public:
  Liar() {
    peer_ = *Peer::Create({.name = "liar"});
    peer_->Accept([this](std::shared_ptr<Session> session) {
      EXPECT_THAT(session->Handle(kPullType,
                                  [this](Session& at, Received request) {
                                    Answer(at, request.envelope);
                                  }),
                  IsOk());
      absl::MutexLock lock(&mu_);
      sessions_.push_back(std::move(session));
    });
  }
  void Say(std::optional<TensorMessage> answer) {
    absl::MutexLock lock(&mu_);
    answer_ = std::move(answer);
  }
  const std::string& address() const { return peer_->control_address(); }
  absl::Notification asked;

 private:
  void Answer(Session& session, const Envelope& request) {
    if (!asked.HasBeenNotified()) asked.Notify();
    absl::MutexLock lock(&mu_);
    if (answer_.has_value()) {
      session.Reply(request, *answer_, {}, nullptr);
    }
  }

  absl::Mutex mu_;
  std::optional<TensorMessage> answer_;
  std::vector<std::shared_ptr<Session>> sessions_;
  std::unique_ptr<Peer> peer_;
};

TensorMessage Reply(const std::string& bundle, int tensors) {
  pb::PullReply reply;
  pb::PulledBundle* row = reply.add_bundles();
  row->set_name(bundle);
  row->set_version(1);
  row->set_tensors(tensors);
  return {.type = kPullType,
          .payload = reply.SerializeAsString(),
          .tensors = {at::ones({1})},
          .names = {"w"}};
}

TEST_F(PullPushTest, AnAnswerThatContradictsItselfIsAnError) {
  Liar liar;
  const auto session = Connect(liar.address());
  TensorMessage nameless = Reply("m", 1);
  nameless.names.clear();
  TensorMessage noise = Reply("m", 1);
  noise.payload = "\xff\xff\xff";
  const std::vector<std::pair<TensorMessage, std::string>> lies = {
      {Reply("m", 2), "announced 2 tensors and sent 1"},
      {Reply("other", 1), "\"other\""},
      {Reply("../m", 1), "bundle name"},
      {nameless, "0 names"},
      {noise, "no PullReply"},
  };
  for (const auto& [lie, says] : lies) {
    liar.Say(lie);
    EXPECT_THAT(
        blocking::Pull(session,
                       {.bundle = lie.payload.find("..") == 4 ? "" : "m"}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(says)));
  }
  liar.Say(Reply("m", 1));
  EXPECT_THAT(blocking::Pull(session, {.bundle = "m", .names = "v*"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"w\"")));
  EXPECT_THAT(blocking::Pull(session, {.bundle = "m"}), IsOk());
}

TEST_F(PullPushTest, AnAnswerOfFarMoreFieldsThanItHasIsNotParsed) {
  Liar liar;
  const auto session = Connect(liar.address());
  TensorMessage lie = Reply("m", 1);
  const std::string honest = lie.payload;
  pb::PullReply within;  // of a bundle of its
  ASSERT_TRUE(within.add_bundles()->ParseFromString(FarTooManyFields()));
  for (const std::string& more :
       {FarTooManyFields(), within.SerializeAsString()}) {
    lie.payload = honest + more;
    liar.Say(lie);
    EXPECT_THAT(
        blocking::Pull(session, {.bundle = "m"}),
        StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("PullReply")));
  }
}

TEST_F(PullPushTest, APullEndsByItsDeadline) {
  Liar liar;
  EXPECT_THAT(blocking::Pull(Connect(liar.address()),
                             {.timeout = absl::Milliseconds(50)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(PullPushTest, APullThatIsCancelledEnds) {
  Liar liar;
  absl::Notification ended;
  absl::Status status;
  Operation pull = Pull(Connect(liar.address()), {.timeout = kPatience},
                        [&](absl::StatusOr<Pulled> pulled) {
                          status = pulled.status();
                          ended.Notify();
                        });
  liar.asked.WaitForNotification();
  pull.Cancel();
  ended.WaitForNotification();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
}

// What it is given may be taken away.
class Revocable : public Authorizer {
 public:
  Grants GrantsOf(const Identity&) const override {
    return revoked ? Grants() : Grants::All();
  }
  std::atomic<bool> revoked{false};
};

TEST_F(PullPushTest, WhoMayHaveNoSessionsAnyMoreHasNoEcho) {
  auto grants = std::make_shared<Revocable>();
  Store store({}, {.authorizer = grants});
  auto session = Connect(store.address());
  EXPECT_THAT(blocking::Echo(session, at::zeros({1}), true, kPatience), IsOk());
  grants->revoked = true;
  EXPECT_THAT(
      blocking::Echo(session, at::zeros({1}), true, kPatience),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("sessions: 1")));
}

// The number of what was not refused.
int UseInChild(std::unique_ptr<CatalogServer> server,
               std::unique_ptr<CatalogClient> client,
               std::shared_ptr<Session> session) {
  alarm(60);
  int left = 2;
  left -= absl::IsFailedPrecondition(server->Serve(std::move(session)));
  client->ListBundles({}, kPatience, [&](auto listed) {
    left -= absl::IsFailedPrecondition(listed.status());
  });
  PeerOptions options;
  server->MountOn(options);
  left += static_cast<int>(options.mount.size());
  client = nullptr;
  server = nullptr;
  return left;
}

TEST_F(PullPushTest, AForkedChildIsRefusedAtOnceAndTheParentGoesOn) {
  Catalog catalog;
  auto server = std::make_unique<CatalogServer>(
      &catalog, CatalogServerOptions{.accept_push = TakeAll});
  PeerOptions options = {.name = "store"};
  server->MountOn(options);
  auto peer = *Peer::Create(std::move(options));
  peer->Accept([&](std::shared_ptr<Session> session) {
    EXPECT_THAT(server->Serve(std::move(session)), IsOk());
  });
  auto session = Connect(peer->control_address());
  // With this it has a thread, as the client has, that no child has.
  EXPECT_THAT(blocking::Push(session, Contents({"a"}, 1, 10), {.bundle = "b"}),
              IsOk());
  auto client = *CatalogClient::Create(peer->control_address());
  const pid_t forked = fork();
  ASSERT_GE(forked, 0);
  if (forked == 0) {
    _exit(UseInChild(std::move(server), std::move(client), session));
  }
  int status = -1;
  ASSERT_EQ(waitpid(forked, &status, 0), forked);  // its alarm bounds this
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(blocking::Pull(session, {.bundle = "b"}), IsOk());
  peer = nullptr;
}

TEST_F(PullPushTest, EchoComesBackAndTakesTime) {
  Store store;
  const auto session = Connect(store.address());
  for (bool and_back : {false, true}) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        const absl::Duration time,
        blocking::Echo(session, at::zeros({1000}), and_back, kPatience));
    EXPECT_GT(time, absl::ZeroDuration());
  }
}

// Counts pulls, and readers that gave up.
struct Progressing {
  absl::Mutex mu;
  int pulls = 0;  // since the last publication
  int failed = 0;

  // Whether the readers are to go on.
  bool Count(const absl::Status& status) {
    absl::MutexLock lock(&mu);
    ++(status.ok() ? pulls : failed);
    return failed == 0;
  }

  // For some pulls, or one reader that pulls no more. False: the latter.
  bool AwaitPulls() {
    absl::MutexLock lock(&mu);
    mu.Await(absl::Condition(
        +[](Progressing* p) { return p->pulls >= 3 || p->failed > 0; }, this));
    pulls = 0;
    return failed == 0;
  }
};

// What is wrong with a pull that came after one of version `last`; sets it.
absl::Status CheckPull(const absl::StatusOr<Pulled>& pulled, int64_t size,
                       uint64_t& last) {
  if (!pulled.ok()) return pulled.status();
  const uint64_t version = pulled->bundles[0].version;
  if (version < last) {
    return absl::InternalError(absl::StrCat(version, " after ", last));
  }
  const at::Tensor wanted = at::full({size}, static_cast<float>(version));
  for (const at::Tensor& tensor : pulled->contents.tensors) {
    if (tensor.equal(wanted)) continue;
    return absl::InternalError(absl::StrCat("version ", version, " is mixed"));
  }
  last = version;
  return absl::OkStatus();
}

class VersionsTest : public PullPushTest,
                     public ::testing::WithParamInterface<int64_t> {};

TEST_P(VersionsTest, NoPullMixesThemAndNoReaderGoesBack) {
  constexpr uint64_t kPublications = 20;  // under the readers, after the first
  const int64_t size = GetParam();
  Store store;
  const auto publish = [&](uint64_t version) {
    return store.catalog().Publish(
        "model",
        Contents({"a", "b", "c", "d"}, static_cast<float>(version), size));
  };
  ASSERT_THAT(publish(1), IsOkAndHolds(1u));
  Progressing progressing;
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&] {
      const auto session = Connect(store.address());
      bool go_on = true;
      for (uint64_t last = 0; go_on && last <= kPublications;) {
        const absl::Status status =
            CheckPull(blocking::Pull(session, {.bundle = "model"}), size, last);
        EXPECT_THAT(status, IsOk());
        go_on = progressing.Count(status);
      }
    });
  }
  // Each version is there for some pulls, and none waits for the next.
  for (uint64_t version = 2; version <= 1 + kPublications; ++version) {
    if (!progressing.AwaitPulls()) break;
    EXPECT_THAT(publish(version), IsOkAndHolds(version));
  }
  for (std::thread& reader : readers) reader.join();
}

// Within the header, and on lanes of their own.
INSTANTIATE_TEST_SUITE_P(Sizes, VersionsTest, ::testing::Values(10, 40'000));

}  // namespace
}  // namespace tensorferry
