// Pulls and pushes between two peers in one process, over real gRPC and real
// lanes.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "catalog/blocking.h"
#include "catalog/catalog.h"
#include "catalog/catalog.pb.h"
#include "catalog/serve.h"
#include "catalog/wire_types.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr absl::Duration kPatience = absl::Seconds(60);

NamedTensors Contents(std::vector<std::string> names, float value,
                      int64_t size) {
  NamedTensors contents;
  for (std::string& name : names) {
    contents.names.push_back(std::move(name));
    contents.tensors.push_back(at::full({size}, value));
  }
  return contents;
}

// A peer that serves a catalog.
class Store {
 public:
  explicit Store(CatalogServerOptions options = {})
      : server_(&catalog_, std::move(options)) {
    PeerOptions peer = {.name = "store"};
    server_.MountOn(peer);
    peer_ = *Peer::Create(std::move(peer));
    peer_->Accept([this](std::shared_ptr<Session> session) {
      // Not OK if the session has ended by now.
      server_.Serve(std::move(session)).IgnoreError();
    });
  }
  Catalog& catalog() { return catalog_; }
  const std::string& address() const { return peer_->control_address(); }

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
  Store store({.accept_push = [](const auto&...) { return absl::OkStatus(); }});
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

TEST_F(PullPushTest, PushesBecomeTheNextVersion) {
  std::vector<std::string> taken;
  Store store({.accept_push = [&taken](const std::string& bundle,
                                       const NamedTensors& contents) {
    taken.push_back(absl::StrCat(bundle, ":", contents.names.size(), ":",
                                 contents.file_header));
    return absl::OkStatus();
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

TEST_F(PullPushTest, APushThatCannotBePublishedIsRefusedAtHome) {
  Store store({.accept_push = [](const auto&...) { return absl::OkStatus(); }});
  const auto session = Connect(store.address());
  EXPECT_THAT(
      blocking::Push(session, Contents({"a"}, 1, 1), {.bundle = "../etc"}),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(blocking::Push(session, Contents({""}, 1, 1), {.bundle = "m"}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(PullPushTest, RequestsThatAreNoneAreRefused) {
  int accepted = 0;
  Store store({.accept_push = [&accepted](const auto&...) {
    ++accepted;
    return absl::OkStatus();
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
      session.Reply(request, *answer_, {}, [](absl::StatusOr<Receipt>) {});
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

TEST_F(PullPushTest, NoPullMixesVersionsAndNoReaderGoesBack) {
  constexpr uint64_t kVersions = 20;
  constexpr int64_t kSize = 40'000;  // of some tensors that travel alone
  Store store;
  const auto version_contents = [](uint64_t version) {
    return Contents({"a", "b", "c", "small"}, static_cast<float>(version),
                    kSize);
  };
  ASSERT_THAT(store.catalog().Publish("model", version_contents(1)),
              IsOkAndHolds(1u));
  absl::Mutex mu;
  uint64_t pulls_since = 0;  // the last publication
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&] {
      const auto session = Connect(store.address());
      for (uint64_t last = 0; last < kVersions;) {
        absl::StatusOr<Pulled> pulled =
            blocking::Pull(session, {.bundle = "model"});
        ASSERT_THAT(pulled, IsOk());
        const uint64_t version = pulled->bundles[0].version;
        ASSERT_GE(version, last);
        ASSERT_EQ(pulled->contents.tensors.size(), 4u);
        for (const at::Tensor& tensor : pulled->contents.tensors) {
          ASSERT_TRUE(
              tensor.equal(at::full({kSize}, static_cast<float>(version))))
              << "version " << version;
        }
        last = version;
        absl::MutexLock lock(&mu);
        ++pulls_since;
      }
    });
  }
  for (uint64_t version = 2; version <= kVersions; ++version) {
    // Each version is there for some pulls, and none waits for the next.
    {
      absl::MutexLock lock(&mu);
      mu.Await(absl::Condition(
          +[](uint64_t* pulls) { return *pulls >= 3; }, &pulls_since));
      pulls_since = 0;
    }
    EXPECT_THAT(store.catalog().Publish("model", version_contents(version)),
                IsOkAndHolds(version));
  }
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace tensorferry
